package delivery_test

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/internal/escrow"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/platforms/windows"
	"github.com/waxseal/waxseal/platforms/windows/syncml"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/delivery"
	"github.com/waxseal/waxseal/server/internal/model"
)

// kept is a store of one enrolment that keeps what it is given.
type kept struct {
	memory
	jobs map[string]model.Job
	all  []model.Command
	fail error
}

func (k *kept) Snapshot(context.Context, string) (delivery.Snapshot, error) {
	s := k.snapshot
	s.Generation = k.generation
	s.Documents, s.Commands, s.Jobs = slices.Clone(s.Documents), nil, map[string]model.Job{}
	s.Issued = slices.Clone(s.Issued)
	for _, c := range k.all {
		if c.State == model.CommandSent || c.State == model.CommandNotNow {
			s.Commands = append(s.Commands, c)
		}
	}
	for key, j := range k.jobs {
		s.Jobs[key] = j
	}
	return s, k.fail
}

func put[T any](list []T, n T, same func(T) bool) []T {
	if i := slices.IndexFunc(list, same); i >= 0 {
		list[i] = n
		return list
	}
	return append(list, n)
}

func (k *kept) Save(_ context.Context, d delivery.Decision) error {
	s := &k.snapshot
	if d.Version != s.Enrolment.Version {
		return model.ErrConflict
	}
	for _, n := range d.Documents {
		s.Documents = put(s.Documents, n, func(o model.DocumentState) bool { return o.Document.ID == n.Document.ID })
	}
	s.Documents = slices.DeleteFunc(s.Documents, func(o model.DocumentState) bool { return slices.Contains(d.Forget, o.Document.ID) })
	for _, n := range d.Certificates {
		if i := slices.IndexFunc(s.Issued, func(c model.Certificate) bool { return c.SHA256 == n.SHA256 }); i >= 0 {
			s.Issued[i].Status = n.Status
		}
	}
	for _, n := range d.Commands {
		k.all = put(k.all, n, func(o model.Command) bool { return o.UUID == n.UUID })
	}
	for _, j := range d.Jobs {
		j.State = model.JobOpen
		k.jobs[j.Key] = j
	}
	for _, key := range d.Obsolete {
		delete(k.jobs, key)
	}
	if d.Inventory != nil {
		s.Inventory = *d.Inventory
	}
	if d.Device != nil {
		s.Device = *d.Device
	}
	if d.Enrolment != nil {
		s.Enrolment = *d.Enrolment
	}
	s.Enrolment.Version++
	return nil
}

const (
	userPFX  = "./User/Vendor/MSFT/ClientCertificateInstall/PFXCertInstall"
	password = "the-password-of-the-file"
	blob     = "the-content-of-the-file-with-the-key"
	sha1Of   = "00112233445566778899AABBCCDDEEFF00112233"
	pfxNode  = userPFX + "/" + sha1Of
)

// talk is a session of a PC with delivery. The PC is a tree of nodes that spoils what a test tells it to.
type talk struct {
	t     *testing.T
	w     *delivery.Windows
	store *kept
	s     model.Session
	now   time.Time
	msgID int
	asked []syncml.Command
	tree  map[string]string
	// spoil gives a command another status (0: the PC obeys) and an originalerror.
	spoil  func(syncml.Command) (int, string)
	states []string // every State that was kept
	secret []string // what none of them may hold
	pc     *testpki.Identity
}

func newTalk(t *testing.T) *talk {
	ca := testpki.NewCA(t, "Corp root")
	k := &talk{t: t, now: now, tree: map[string]string{}, store: &kept{jobs: map[string]model.Job{}}, pc: ca.Issue(t, testpki.Options{CN: "pc"})}
	s := &k.store.snapshot
	s.Device = model.Device{ID: "d1", UserID: "u1", Platform: profiles.Windows, State: model.DeviceEnrolled, OSVersion: "10.0.22631.1"}
	s.Enrolment = model.Enrolment{ID: "e1", DeviceID: "d1", UserID: "u1", Platform: profiles.Windows, State: model.EnrolmentActive,
		Certificate: k.pc.Cert.Raw, CertSHA256: "aa", Dirty: true}
	s.User = model.User{ID: "u1", UPN: "alice@corp.test", Spec: profiles.User{Addresses: []string{"alice@corp.test"}}}
	s.ConnectorSeen = now
	s.Objects = []profiles.Object{
		{Kind: profiles.KindTrustedCertificate, Name: "root", Spec: &profiles.TrustedCertificate{Certificate: ca.Cert.Raw}},
		{Kind: profiles.KindPKCSImportedCertificate, Name: "hist", Spec: &profiles.PKCSImportedCertificate{IntendedPurpose: profiles.PurposeSMIMEEncryption}},
		assigned("root", "hist"),
	}
	s.Imported = []model.Certificate{{Kind: model.CertificateImported, Certificate: profiles.Certificate{SHA256: strings.Repeat("ab", 32), SHA1: strings.ToLower(sha1Of),
		RecordID: "r1", Purpose: profiles.PurposeSMIMEEncryption, Addresses: []string{"alice@corp.test"}, NotBefore: now.AddDate(-1, 0, 0), NotAfter: now.AddDate(1, 0, 0)}}}
	s.Records = map[string]escrow.Record{"r1": {ID: "r1", Wraps: []escrow.Wrap{{Member: "m1"}}}}
	uuids := 0
	k.w = &delivery.Windows{ProviderID: "Wax seal", Service: delivery.New(delivery.Config{Store: k.store, Clock: func() time.Time { return k.now },
		CanDecrypt: func([]byte) bool { return true }, Planners: map[profiles.Platform]delivery.Planner{profiles.Windows: windows.Plan},
		NewUUID: func() string { uuids++; return fmt.Sprintf("C%d", uuids) }})}
	k.session("user")
	return k
}

func assigned(names ...string) profiles.Object {
	return profiles.Object{Kind: profiles.KindAssignment, Name: "a", Spec: &profiles.Assignment{Profiles: names, Include: []profiles.Target{{Everybody: true}}}}
}

// session begins a new one.
func (k *talk) session(login string) {
	k.msgID, k.asked = 0, nil
	k.s = model.Session{EnrolmentID: "e1", ID: fmt.Sprint(len(k.states)), Login: login}
}

// hear sends the PC's next message and gives our commands.
func (k *talk) hear(said ...syncml.Command) []syncml.Command {
	k.t.Helper()
	commands, _, err := k.exchange(said...)
	if err != nil {
		k.t.Fatal(err)
	}
	return commands
}

func (k *talk) exchange(said ...syncml.Command) ([]syncml.Command, int, error) {
	answers := syncml.Answers{}
	if k.msgID > 0 {
		m := syncml.Message{Commands: said}
		answers = m.Answers(k.msgID)
	}
	k.msgID++
	commands, pending, err := k.w.Exchange(k.t.Context(), k.store.snapshot.Enrolment, &k.s, answers, 3)
	k.asked = commands
	k.s.State = slices.Clone(k.s.State)
	k.states = append(k.states, string(k.s.State))
	return commands, pending, err
}

// obey is what the PC answers to our last commands.
func (k *talk) obey() []syncml.Command { return k.answers(k.asked) }

func (k *talk) answers(commands []syncml.Command) []syncml.Command {
	var out []syncml.Command
	for _, c := range commands {
		code, original := 0, ""
		if k.spoil != nil {
			code, original = k.spoil(c)
		}
		if code == 0 {
			code = k.carryOut(c)
		}
		out = append(out, k.status(c, code, original))
		if c.Verb == syncml.Get && code == syncml.StatusOK {
			out = append(out, syncml.Command{Verb: syncml.Results, MsgRef: strconv.Itoa(k.msgID), CmdRef: c.ID,
				Items: []syncml.Item{{Source: c.Items[0].Target, Data: k.value(c.Items[0].Target)}}})
		}
		out = append(out, k.answers(c.Commands)...)
	}
	return out
}

func (k *talk) status(c syncml.Command, code int, original string) syncml.Command {
	return syncml.Command{Verb: syncml.Status, MsgRef: strconv.Itoa(k.msgID), CmdRef: c.ID, Cmd: string(c.Verb), Data: strconv.Itoa(code), OriginalError: original}
}

// carryOut changes the tree. It knows no roll-back: a test that wants one spoils each command of the group.
func (k *talk) carryOut(c syncml.Command) int {
	if len(c.Items) == 0 {
		return syncml.StatusOK
	}
	uri := c.Items[0].Target
	switch c.Verb {
	case syncml.Add:
		if _, there := k.tree[uri]; there {
			return syncml.StatusExists
		}
		k.tree[uri] = c.Items[0].Data
		if node, ok := strings.CutSuffix(uri, "/PFXCertBlob"); ok {
			k.tree[node+"/Status"], k.tree[node+"/Thumbprint"] = "0", strings.ToLower(node[len(node)-40:])
		}
	case syncml.Delete:
		if !k.drop(uri) {
			return syncml.StatusNotFound
		}
	case syncml.Get:
		if _, leaf := k.tree[uri]; !leaf && len(k.children(uri)) == 0 {
			return syncml.StatusNotFound
		}
	}
	return syncml.StatusOK
}

func (k *talk) drop(uri string) (found bool) {
	for node := range k.tree {
		if node == uri || strings.HasPrefix(node, uri+"/") {
			delete(k.tree, node)
			found = true
		}
	}
	return found
}

func (k *talk) value(uri string) string {
	if v, ok := k.tree[uri]; ok {
		return v
	}
	return strings.Join(k.children(uri), "/")
}

func (k *talk) children(uri string) []string {
	var names []string
	for node := range k.tree {
		if rest, below := strings.CutPrefix(node, uri+"/"); below {
			name, _, _ := strings.Cut(rest, "/")
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// run obeys until nothing is left to say.
func (k *talk) run() {
	k.t.Helper()
	for n := 0; len(k.asked) > 0; n++ {
		if n > 40 {
			k.t.Fatalf("the session does not end: %s", short(k.asked))
		}
		k.hear(k.obey()...)
	}
}

// settle lets PC and connector work until everything is where it should be.
func (k *talk) settle() {
	k.t.Helper()
	for range 4 {
		k.session("user")
		k.hear()
		k.run()
		k.render()
		k.now = k.now.Add(time.Second)
		k.store.snapshot.ConnectorSeen = k.now
	}
}

// render is the connector's work.
func (k *talk) render() {
	k.t.Helper()
	for i := range k.store.snapshot.Documents {
		d := &k.store.snapshot.Documents[i]
		if !d.Document.HasSecrets() || len(d.Payload) > 0 || d.InstalledRevision == d.Document.Revision {
			continue
		}
		payload, err := windows.Render(d.Document, map[string]platforms.PKCS12{d.Document.Credentials[0].SHA256: {Bytes: []byte(blob), Password: password}},
			func(p []byte) ([]byte, error) {
				return cms.Encrypt(rand.Reader, p, []*x509.Certificate{k.pc.Cert}, cms.EncryptOptions{})
			})
		if err != nil {
			k.t.Fatal(err)
		}
		k.noteSecrets(payload)
		d.Payload, d.PayloadRevision, d.PayloadRecipient = payload, d.Document.Revision, "aa"
		k.store.snapshot.Enrolment.Dirty = true
	}
}

// noteSecrets takes the sealed password and the file out of a payload.
func (k *talk) noteSecrets(payload []byte) {
	var p struct {
		Nodes []struct{ LocURI, Data string }
	}
	if err := json.Unmarshal(payload, &p); err != nil {
		k.t.Fatal(err)
	}
	for _, n := range p.Nodes {
		if len(n.Data) > 10 {
			k.secret = append(k.secret, n.Data)
		}
	}
}

// atPFX brings a PC to where the Atomic of the key is what it is asked for.
func atPFX(t *testing.T) *talk {
	t.Helper()
	k := newTalk(t)
	k.hear()
	k.run()
	k.render()
	k.session("user")
	if got := short(k.hear()); got != "Atomic(Add KeyLocation,Add PFXKeyExportable,Add PFXCertPassword,Add PFXCertPasswordEncryptionType,Add PFXCertBlob)" {
		t.Fatalf("asked: %s", got)
	}
	return k
}

// short is a list of commands as a test compares it: verbs and last segments.
func short(commands []syncml.Command) string {
	var out []string
	for _, c := range commands {
		switch {
		case len(c.Commands) > 0:
			out = append(out, string(c.Verb)+"("+short(c.Commands)+")")
		default:
			uri := c.Items[0].Target
			out = append(out, string(c.Verb)+" "+uri[strings.LastIndexByte(uri, '/')+1:])
		}
	}
	return strings.Join(out, ",")
}

// doc is the first document whose id begins so.
func (k *talk) doc(prefix string) model.DocumentState {
	for _, d := range k.store.snapshot.Documents {
		if strings.HasPrefix(d.Document.ID, prefix) {
			return d
		}
	}
	return model.DocumentState{}
}

func (k *talk) want(prefix string, status model.DocumentStatus, reason platforms.Reason) {
	k.t.Helper()
	if d := k.doc(prefix); d.Status != status || d.Reason != reason {
		k.t.Errorf("%s is %s/%s (%s), want %s/%s", prefix, d.Status, d.Reason, d.Detail, status, reason)
	}
}

// leaks looks for secrets in everything that was kept between two messages.
func (k *talk) leaks() {
	k.t.Helper()
	if len(k.secret) < 2 {
		k.t.Errorf("%d secrets to look for", len(k.secret))
	}
	for _, state := range k.states {
		for _, secret := range append(k.secret, password, blob) {
			if strings.Contains(state, secret) {
				k.t.Errorf("a State holds %q: %s", secret, state)
			}
		}
		var f struct{ Sent []map[string]any }
		if strings.Contains(state, "PFXCertInstall") && len(state) > 2000 {
			k.t.Errorf("a State of %d bytes has room for a key", len(state))
		}
		if state != "" && json.Unmarshal([]byte(state), &f) != nil {
			k.t.Errorf("a State is not JSON: %s", state)
		}
		for _, sent := range f.Sent {
			for field := range sent {
				if field != "id" && field != "verb" && field != "locURI" {
					k.t.Errorf("a State keeps %q of a command", field)
				}
			}
		}
	}
}
