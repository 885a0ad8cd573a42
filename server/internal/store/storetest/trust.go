package storetest

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/escrow"
	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/server/internal/connectorapi"
	"github.com/waxseal/waxseal/server/internal/model"
)

func trustClasses() []class {
	return []class{
		{"connectors", registers}, {"publish", publishes}, {"publish/key-set", publishKeySets}, {"publish/offers", offers}, {"publish/takes-over", takesOver}, {"publish/rollover", rollover}, {"publish/rewrap", rewraps},
		{"publish/import-for-an-older-set", importForOlderSet}, {"settings", settings},
	}
}

func registers(_ *testing.T, f *fixture) {
	token := f.sha()
	f.ok(f.CreateConnectorToken(f.ctx, token, f.now.Add(time.Hour), f.audit("connector.token")))
	register := func(token, memberID, hash string) (model.Connector, error) {
		return f.RegisterConnector(f.ctx, token, model.Connector{ID: f.id(), Name: "n", Member: member(memberID), CredentialHash: hash}, []byte("root"), f.now, f.audit("connector.register"))
	}
	_, err := register("unknown", "m1", "h")
	f.is(err, model.ErrNotFound)
	first := get(register(token, "m1", "hash 1"))(f)
	equal(f, "the first", first.State, model.ConnectorTrusted)
	_, err = register(token, "m2", "h")
	f.is(err, model.ErrSpent)
	f.now = f.now.Add(2 * time.Hour)
	again := get(register(token, "m1", "hash 2"))(f)
	equal(f, "same row", again.ID, first.ID)
	equal(f, "new credential", get(f.ConnectorByID(f.ctx, first.ID))(f).CredentialHash, "hash 2")
	old := f.sha()
	f.ok(f.CreateConnectorToken(f.ctx, old, f.now.Add(-time.Second), f.audit("connector.token")))
	_, err = register(old, "m2", "h")
	f.is(err, model.ErrExpired)
	second := f.connector("m2")
	equal(f, "the second", second.State, model.ConnectorPending)
	same(f, "member", get(f.ConnectorByID(f.ctx, second.ID))(f).Member, member("m2"))
	equal(f, "all", len(get(f.Connectors(f.ctx))(f)), 2)
	_, err = f.ConnectorByID(f.ctx, "none")
	f.is(err, model.ErrNotFound)
}

func publishes(_ *testing.T, f *fixture) {
	none := get(f.Trust(f.ctx))(f)
	if none.DeviceCA != nil || none.CAs != nil || none.KeySet != nil || none.RACertificate != nil {
		f.Fatalf("trust before the first publish: %+v", none)
	}
	f.deviceAuthority("", "")
	c := f.connector("m1")
	p := link.PublishRequest{DeviceCA: []byte("device ca"), CAs: []link.CA{{Name: "softca", Kind: "softca", Certificate: []byte("ca")}},
		KeySet: keySet(1, member("m1")), RACertificate: []byte("ra")}
	generation := get(f.Generation(f.ctx))(f)
	f.publish(c, p)
	equal(f, "generation", get(f.Generation(f.ctx))(f), generation+1)
	f.publish(c, p)
	equal(f, "generation, same CAs", get(f.Generation(f.ctx))(f), generation+1)
	trust := get(f.Trust(f.ctx))(f)
	equal(f, "device CA", string(trust.DeviceCA), "device ca")
	equal(f, "RA", string(trust.RACertificate), "ra")
	same(f, "CAs", trust.CAs, []link.CA{{Name: "softca", Kind: "softca", Certificate: []byte("ca"), Members: []string{"m1"}}})
	f.deviceAuthority("device ca", "ra")
	same(f, "key set", trust.KeySet, p.KeySet)
	f.publish(c, link.PublishRequest{})
	same(f, "nothing said, nothing changed", get(f.Trust(f.ctx))(f), trust)

	err := f.Publish(f.ctx, c.ID, link.PublishRequest{DeviceCA: []byte("another"), RACertificate: []byte("another")}, f.now, f.audit("publish"))
	f.is(err, model.ErrConflict)
	same(f, "refused as a whole", get(f.Trust(f.ctx))(f), trust)
	pending := f.connector("m2")
	f.is(f.Publish(f.ctx, pending.ID, p, f.now, f.audit("publish")), model.ErrConflict)
	f.publish(c, link.PublishRequest{SealedCAs: map[string][]byte{pending.ID: []byte("sealed")}})
	equal(f, "sealed CA keys", string(get(f.ConnectorByID(f.ctx, pending.ID))(f).SealedCAs), "sealed")
	f.is(f.Publish(f.ctx, c.ID, link.PublishRequest{SealedCAs: map[string][]byte{"none": {1}}}, f.now, f.audit("publish")), model.ErrNotFound)
}

// offers: what one connector has is not what another has, and a job for a CA goes only to who can ask it.
func offers(_ *testing.T, f *fixture) {
	first := f.connector("m1")
	f.publish(first, link.PublishRequest{KeySet: keySet(1, member("m1"))})
	second := f.connector("m2")
	f.publish(first, link.PublishRequest{KeySet: keySet(2, member("m1"), member("m2"))})
	f.publish(first, link.PublishRequest{CAs: []link.CA{{Name: "softca"}, {Name: "corp-est"}}})
	f.publish(second, link.PublishRequest{CAs: []link.CA{{Name: "softca"}, {Name: "adcs"}}})
	cas := get(f.Trust(f.ctx))(f).CAs
	same(f, "softca", link.Offering(cas, "softca"), []string{"m1", "m2"})
	same(f, "corp-est", link.Offering(cas, "corp-est"), []string{"m1"})
	same(f, "adcs", link.Offering(cas, "adcs"), []string{"m2"})
	f.publish(first, link.PublishRequest{CAs: []link.CA{{Name: "softca"}}})
	same(f, "corp-est, given up", link.Offering(get(f.Trust(f.ctx))(f).CAs, "corp-est"), []string(nil))
}

// takesOver: the connector that had a CA is lost, and another one offers it: what waits for the CA goes to that one. A revocation
// that nobody could do is tried again.
func takesOver(_ *testing.T, f *fixture) {
	first := f.connector("m1")
	f.publish(first, link.PublishRequest{KeySet: keySet(1, member("m1"))})
	second := f.connector("m2")
	f.publish(first, link.PublishRequest{KeySet: keySet(2, member("m1"), member("m2"))})
	f.publish(first, link.PublishRequest{CAs: []link.CA{{Name: "corp-est"}}})
	only := link.PartnerMember("ejbca")
	for _, j := range []model.Job{
		{Key: "certify", Kind: link.JobCertify, Payload: json.RawMessage(`{"request":{"certificateAuthority":"corp-est"}}`), Needs: []string{"m1"}},
		{Key: "issue", Kind: link.JobIssue, Payload: json.RawMessage(`{"request":{"certificateAuthority":"corp-est"}}`), Needs: []string{"m1"}},
		{Key: "revoke", Kind: link.JobRevoke, Payload: json.RawMessage(`{"ca":"corp-est"}`), Needs: []string{"m1"}},
		{Key: "partner", Kind: link.JobCertify, Payload: json.RawMessage(`{"request":{"certificateAuthority":"ejbca"}}`), Needs: []string{only}},
		{Key: "another", Kind: link.JobRevoke, Payload: json.RawMessage(`{"ca":"another"}`), Needs: []string{"m1"}},
	} {
		j.RunAt = f.now
		get(f.CreateJob(f.ctx, j, f.audit("test")))(f)
	}
	equal(f, "before", len(f.claimIDs(second, 10)), 0)
	for range 4 {
		j := f.claim(first)
		done := f.completion(j)
		done.Failure = &connectorapi.Failure{Message: "gone", RetryAt: f.now, Final: j.Kind == link.JobRevoke, Reason: platforms.ReasonCertificateAuthorityUnknown}
		if j.Kind == link.JobRevoke {
			f.ok(f.Complete(f.ctx, done))
		}
	}
	f.now = f.now.Add(2 * time.Minute)
	f.publish(second, link.PublishRequest{CAs: []link.CA{{Name: "corp-est"}}})
	equal(f, "after", len(f.claimIDs(second, 10)), 3)
	for _, j := range append(f.jobsOf(link.JobRevoke), f.jobsOf(link.JobCertify)...) {
		switch j.Key {
		case "another":
			same(f, "another's", j.Needs, []string{"m1"})
		case "partner":
			same(f, "the partner's", j.Needs, []string{only})
		}
	}
}

// rollover: the connector that knows the next issuing CA is right, whichever comes first.
func rollover(_ *testing.T, f *fixture) {
	first := f.connector("m1")
	f.publish(first, link.PublishRequest{KeySet: keySet(1, member("m1"))})
	second := f.connector("m2")
	f.publish(first, link.PublishRequest{KeySet: keySet(2, member("m1"), member("m2"))})
	before := link.CA{Name: "softca", Certificate: []byte("ca"), Chain: [][]byte{[]byte("root")}}
	after := link.CA{Name: "softca", Certificate: []byte("ca 2"), Chain: [][]byte{[]byte("ca"), []byte("root")}}
	for _, offers := range [][]link.CA{{before, after}, {after, before}} {
		f.publish(first, link.PublishRequest{CAs: offers[:1]})
		f.publish(second, link.PublishRequest{CAs: offers[1:]})
		want := after
		want.Members = []string{"m1", "m2"}
		same(f, "CAs", get(f.Trust(f.ctx))(f).CAs, []link.CA{want})
	}
}

func publishKeySets(_ *testing.T, f *fixture) {
	c, second := f.connector("m1"), f.connector("m2")
	send := func(s *escrow.SignedKeySet) error {
		return f.Publish(f.ctx, c.ID, link.PublishRequest{KeySet: s}, f.now, f.audit("publish"))
	}
	// The signed bytes must come back as they were, spaces and all.
	odd := keySet(2, member("m1"))
	odd.KeySet = append(json.RawMessage(" "), append(odd.KeySet, '\n')...)
	f.ok(send(odd))
	equal(f, "bytes", string(get(f.Trust(f.ctx))(f).KeySet.KeySet), string(odd.KeySet))
	f.ok(send(odd))
	f.is(send(keySet(2, member("m1"))), model.ErrConflict)
	f.is(send(keySet(1, member("m1"))), model.ErrConflict)
	foreign := keySet(3, member("m1"))
	foreign.Root = []byte("another root")
	f.is(send(foreign), model.ErrConflict)
	equal(f, "second", get(f.ConnectorByID(f.ctx, second.ID))(f).State, model.ConnectorPending)
	f.ok(send(keySet(3, member("m1"), member("m2"))))
	equal(f, "second", get(f.ConnectorByID(f.ctx, second.ID))(f).State, model.ConnectorTrusted)
}

func rewraps(_ *testing.T, f *fixture) {
	u, c := f.user("a@x.example"), f.connector("m1")
	recovery := member("recovery")
	recovery.Kind = escrow.MemberRecovery
	f.publish(c, link.PublishRequest{KeySet: keySet(1, member("m1"), recovery)})
	e := f.enrol(u, c, "UDID")
	f.issue(e, c) // sealed to connectors only, which is right
	sha, recordID := f.imports(u, "m1", "recovery")
	equal(f, "all is sealed well", len(f.jobsOf(link.JobRewrap)), 0)
	f.connector("m2")
	f.publish(c, link.PublishRequest{KeySet: keySet(2, member("m1"), member("m2"), recovery)})
	f.publish(c, link.PublishRequest{KeySet: keySet(2, member("m1"), member("m2"), recovery)})
	equal(f, "rewrap jobs", len(f.jobsOf(link.JobRewrap)), 2)
	for range 2 {
		j := f.claim(c)
		same(f, "needs a recipient", j.Needs[0], "m1")
		var payload link.RewrapJob
		f.ok(json.Unmarshal(j.Payload, &payload))
		done := f.completion(j)
		wider := record(payload.Record.ID, payload.Record.Owner, payload.Record.CertSHA256, "m1", "m2", "recovery")
		done.Rewrapped = &wider
		f.ok(f.Complete(f.ctx, done))
	}
	s := f.snapshot(e.ID)
	equal(f, "sealed to the second", s.Records[recordID].SealedTo("m2"), true)
	same(f, "ciphertext", s.Records[recordID].Ciphertext, record(recordID, "", sha).Ciphertext)
	f.publish(c, link.PublishRequest{KeySet: keySet(3, member("m1"), member("m2"), recovery)})
	// The issued key of this test is now sealed to the recovery key, which may not have it; the imported one is right.
	equal(f, "sealed to somebody too many", len(f.claimIDs(c, 9)), 1)
	f.publish(c, link.PublishRequest{KeySet: keySet(4, member("m1"), recovery)})
	equal(f, "a member less", len(f.claimIDs(c, 9)), 2)
}

// importForOlderSet: the admin's machine sealed to a key set that was replaced before the record arrived.
func importForOlderSet(_ *testing.T, f *fixture) {
	u, c := f.user("a@x.example"), f.connector("m1")
	f.publish(c, link.PublishRequest{KeySet: keySet(5, member("m1"), member("m2"))})
	_, recordID := f.imports(u, "m1")
	jobs := f.jobsOf(link.JobRewrap)
	equal(f, "rewrap jobs", len(jobs), 1)
	f.ok(f.DeleteRecord(f.ctx, recordID, f.now, f.audit("delete")))
	equal(f, "its job", f.job(jobs[0].ID).State, model.JobObsolete)
}

func settings(_ *testing.T, f *fixture) {
	_, err := f.Setting(f.ctx, "topic")
	f.is(err, model.ErrNotFound)
	for _, v := range []string{`"a"`, `{ "b": [1, 2] }`} {
		f.ok(f.SetSetting(f.ctx, "topic", json.RawMessage(v)))
		equal(f, "value", string(get(f.Setting(f.ctx, "topic"))(f)), v)
	}
}

// deviceAuthority compares the part of Trust that has a method of its own.
func (f *fixture) deviceAuthority(wantCA, wantRA string) {
	f.Helper()
	ca, ra, err := f.Store.DeviceAuthority(f.ctx)
	if err != nil || string(ca) != wantCA || string(ra) != wantRA {
		f.Fatalf("device authority %q, %q, %v", ca, ra, err)
	}
}
