package delivery_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/platforms/windows"
	"github.com/waxseal/waxseal/platforms/windows/syncml"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/delivery"
	"github.com/waxseal/waxseal/server/internal/model"
)

const userSCEP = "./User/Vendor/MSFT/ClientCertificateInstall/SCEP"

// asker is a PC that makes its signing key itself. It enrols in its own time: when a test says so.
type asker struct {
	*talk
	minted []string
	sent   []string // challenges that arrived
	fail   error    // of minting
}

func newAsker(t *testing.T) *asker {
	a := &asker{talk: newTalk(t)}
	s := &a.store.snapshot
	s.Imported = nil
	root := s.Objects[0].Spec.(*profiles.TrustedCertificate).Certificate
	s.CAs = []link.CA{{Name: "softca", Kind: "softca", Certificate: root, Members: []string{"m1"}}}
	s.Objects = []profiles.Object{a.own(365), assigned("own")}
	uuids := 0
	a.w.Service = delivery.New(delivery.Config{Store: a.store, Clock: func() time.Time { return a.now }, Mint: a.mint,
		CanDecrypt: func([]byte) bool { return true }, Planners: map[profiles.Platform]delivery.Planner{profiles.Windows: windows.Plan},
		NewUUID: func() string { uuids++; return fmt.Sprintf("C%d", uuids) }})
	a.spoil = a.enroll
	return a
}

func (a *asker) own(days int) profiles.Object {
	return profiles.Object{Kind: profiles.KindSCEPCertificate, Name: "own", Spec: &profiles.SCEPCertificate{CertificateRequest: profiles.CertificateRequest{
		CertificateAuthority: "softca", Subject: "CN={{UserPrincipalName}}", Validity: profiles.Duration(time.Duration(days) * profiles.Day)}}}
}

func (a *asker) mint(_ context.Context, _ string, names []string) (map[string]string, error) {
	out := map[string]string{}
	for _, name := range names {
		out[name] = fmt.Sprintf("challenge-number-%d", len(a.minted)+1)
		a.minted = append(a.minted, out[name])
		a.secret = append(a.secret, out[name])
	}
	return out, a.fail
}

// enroll accepts a request: the certificate comes later.
func (a *asker) enroll(c syncml.Command) (int, string) {
	if len(c.Items) == 0 || c.Verb != syncml.Exec {
		return 0, ""
	}
	node := strings.TrimSuffix(c.Items[0].Target, "/Install/Enroll")
	a.sent = append(a.sent, a.tree[node+"/Install/Challenge"])
	delete(a.tree, node+"/Install/Challenge")
	a.tree[node+"/Status"] = "2"
	return syncml.StatusAccepted, ""
}

// issue is the CA that issues, and the PC that installs, the n-th certificate.
func (a *asker) issue(n int) {
	print := fmt.Sprintf("%040d", n)
	node := a.doc("identity.own").Document.Identifier
	a.store.snapshot.Issued = append(a.store.snapshot.Issued, model.Certificate{Kind: model.CertificateIssued, Status: model.CertificateCurrent, Profile: "own",
		CA: "softca", CreatedAt: a.now, Certificate: profiles.Certificate{SHA256: fmt.Sprintf("%064d", n), SHA1: print,
			RecordID: strings.ToLower(node[len(userSCEP)+1:]), NotBefore: a.now, NotAfter: a.now.AddDate(1, 0, 0)}})
	a.store.snapshot.Enrolment.Dirty = true
	a.tree[node+"/Status"], a.tree[node+"/ErrorCode"], a.tree[node+"/CertThumbprint"] = "1", "0", strings.ToLower(print)
}

// meet is a session.
func (a *asker) meet() {
	a.t.Helper()
	a.session("user")
	a.hear()
	a.run()
	a.now = a.now.Add(time.Second)
	a.store.snapshot.ConnectorSeen = a.now
}

// pending is a session's count of documents that will come by themselves.
func (a *asker) pending() (n int) {
	a.t.Helper()
	a.session("user")
	for said := []syncml.Command(nil); ; said = a.obey() {
		commands, pending, err := a.exchange(said...)
		if err != nil {
			a.t.Fatal(err)
		}
		if len(commands) == 0 {
			return pending
		}
	}
}

func (a *asker) wantSent(n int) {
	a.t.Helper()
	seen := map[string]bool{}
	for _, c := range a.sent {
		if seen[c] || c == "" {
			a.t.Errorf("the challenge %q was sent twice, or is none", c)
		}
		seen[c] = true
	}
	if len(a.sent) != n {
		a.t.Errorf("the PC was told to ask %d times, want %d", len(a.sent), n)
	}
	for _, state := range a.states {
		if strings.Contains(state, "challenge-number") {
			a.t.Errorf("a State holds a challenge: %s", state)
		}
	}
}

func (a *asker) status(n int) model.CertificateStatus { return a.store.snapshot.Issued[n].Status }

// The PC takes the nodes, asks in its own time, and counts once it shows the certificate that was issued.
func TestAPCMakesItsOwnKey(t *testing.T) {
	a := newAsker(t)
	if got := short(a.hear()); got != "Get Status,Get CertThumbprint,Get ErrorCode" {
		t.Fatalf("first it is looked at: %s", got)
	}
	got := short(a.hear(a.obey()...))
	if !strings.HasPrefix(got, "Atomic(Add ServerURL,Add Challenge,") || !strings.HasSuffix(got, ",Exec Enroll)") {
		t.Fatalf("then it is told to ask: %s", got)
	}
	a.run()
	a.want("identity.own", model.DocumentReady, platforms.ReasonIssuePending)
	if n := a.pending(); n != 1 {
		t.Errorf("%d documents will come by themselves, want 1", n)
	}
	a.want("identity.own", model.DocumentReady, platforms.ReasonIssuePending)
	a.issue(1)
	a.meet()
	a.want("identity.own", model.DocumentVerified, platforms.ReasonVerified)
	if n := a.pending(); n != 0 {
		t.Errorf("%d documents will come by themselves, want 0", n)
	}
	a.wantSent(1)
}

// A PC that gave up is cleared, and told again, later, with a challenge of its own.
func TestAPCGetsNoCertificate(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(a *asker, node string)
		want  string
	}{
		"refused": {func(a *asker, node string) { a.tree[node+"/Status"], a.tree[node+"/ErrorCode"] = "16", "-2147012867" }, "cannot be reached (0x80072EFD)"},
		"another's": {func(a *asker, node string) {
			a.tree[node+"/Status"], a.tree[node+"/CertThumbprint"] = "1", strings.Repeat("ab", 20)
		}, "not issued for this request"},
		"no key":   {func(a *asker, node string) { a.tree[node+"/Status"] = "1" }, "shows none"},
		"for ever": {func(a *asker, _ string) { a.now = a.now.Add(2 * time.Hour) }, "more than 1h0m0s"},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAsker(t)
			a.meet()
			node := a.doc("identity.own").Document.Identifier
			c.spoil(a, node)
			a.meet()
			a.want("identity.own", model.DocumentFailed, platforms.ReasonDeviceRefused)
			if d := a.doc("identity.own"); !strings.Contains(d.Detail, c.want) {
				t.Errorf("it says %q, want %q", d.Detail, c.want)
			}
			if len(a.children(userSCEP)) != 0 {
				t.Error("what came to nothing is still there")
			}
			a.meet() // at once: too early
			a.wantSent(1)
			a.now = a.now.Add(2 * time.Minute)
			a.meet()
			a.wantSent(2)
			a.issue(1)
			a.meet()
			a.want("identity.own", model.DocumentVerified, platforms.ReasonVerified)
		})
	}
}

// What the PC refuses, or does not keep, is told in its words.
func TestAPCTakesNoRequest(t *testing.T) {
	a := newAsker(t)
	a.spoil = func(c syncml.Command) (int, string) {
		switch {
		case c.Verb == syncml.Atomic:
			return syncml.StatusAtomicFailed, ""
		case c.Verb == syncml.Exec:
			return syncml.StatusFailed, "0x80070057"
		case c.Verb == syncml.Add && strings.Contains(c.Items[0].Target, "/SCEP/"):
			return syncml.StatusRolledBack, ""
		}
		return 0, ""
	}
	a.meet()
	a.want("identity.own", model.DocumentFailed, platforms.ReasonDeviceRefused)
	if d := a.doc("identity.own"); !strings.Contains(d.Detail, "Exec of") || !strings.Contains(d.Detail, "0x80070057") {
		t.Errorf("it says %q", d.Detail)
	}

	a = newAsker(t)
	a.spoil = func(c syncml.Command) (int, string) {
		if c.Verb == syncml.Get && strings.HasSuffix(c.Items[0].Target, "/Status") {
			return syncml.StatusFailed, ""
		}
		return 0, ""
	}
	a.meet()
	a.wantSent(0)
	if d := a.doc("identity.own"); !strings.Contains(d.Detail, "be read") {
		t.Errorf("it says %q", d.Detail)
	}

	a = newAsker(t)
	a.fail = errors.New("SCEPCertificate own: it is not wanted on the device any more")
	a.meet()
	a.want("identity.own", model.DocumentFailed, platforms.ReasonRenderFailed)
	a.wantSent(0)
}

// A lost answer makes no second key: the PC is looked at first.
func TestAnAnswerOfAnAskingPCIsLost(t *testing.T) {
	a := newAsker(t)
	a.hear()
	a.hear(a.obey()...)
	a.obey() // carried out; the line is cut
	a.meet()
	a.wantSent(1)
	a.want("identity.own", model.DocumentReady, platforms.ReasonIssuePending)
	a.issue(1)
	a.session("user")
	a.hear()
	a.obey() // cut again
	a.meet()
	a.wantSent(1)
	a.want("identity.own", model.DocumentVerified, platforms.ReasonVerified)
}

// Nobody is logged on: the PC's user part is neither asked nor lost.
func TestAnAskingPCWithoutItsUser(t *testing.T) {
	a := newAsker(t)
	a.meet()
	a.session("none")
	a.hear()
	a.run()
	a.want("identity.own", model.DocumentWaiting, platforms.ReasonUserNotLoggedOn)
	a.issue(1)
	a.meet()
	a.want("identity.own", model.DocumentVerified, platforms.ReasonVerified)
	a.wantSent(1)
}

// The next certificate has a node of its own; the former goes once the new one is verified, and not before.
func TestAPCsNextCertificate(t *testing.T) {
	a := newAsker(t)
	a.meet()
	a.issue(1)
	a.meet()
	former := a.doc("identity.own").Document.Identifier
	a.store.snapshot.Objects[0] = a.own(200)
	a.store.snapshot.Enrolment.Dirty = true
	a.meet()
	if _, there := a.tree[former+"/CertThumbprint"]; !there || a.status(0) != model.CertificateCurrent {
		t.Error("the former certificate is gone before the new one is there")
	}
	a.issue(2)
	a.meet()
	a.meet()
	a.want("identity.own", model.DocumentVerified, platforms.ReasonVerified)
	if names := a.children(userSCEP); len(names) != 1 || strings.HasSuffix(former, names[0]) {
		t.Errorf("nodes %q", names)
	}
	if a.status(0) != model.CertificateSuperseded || a.status(1) != model.CertificateCurrent {
		t.Errorf("statuses %s, %s", a.status(0), a.status(1))
	}
	a.wantSent(2)
}

// The user deletes the certificate: with its node, or without.
func TestAPCLosesItsOwnKey(t *testing.T) {
	for name, lose := range map[string]func(a *asker, node string){
		"node": func(a *asker, node string) { a.drop(node) },
		"key":  func(a *asker, node string) { a.tree[node+"/CertThumbprint"] = "" },
	} {
		t.Run(name, func(t *testing.T) {
			a := newAsker(t)
			a.meet()
			a.issue(1)
			a.meet()
			lose(a, a.doc("identity.own").Document.Identifier)
			a.now = a.now.Add(25 * time.Hour)
			a.meet()
			a.meet()
			a.wantSent(2)
			a.issue(2)
			a.meet()
			a.meet()
			a.want("identity.own", model.DocumentVerified, platforms.ReasonVerified)
			if a.status(0) != model.CertificateSuperseded || a.status(1) != model.CertificateCurrent {
				t.Errorf("statuses %s, %s", a.status(0), a.status(1))
			}
			if n := len(a.children(userSCEP)); n != 1 {
				t.Errorf("%d nodes", n)
			}
		})
	}
}

// A PC may have its certificate before the partner CA has told of it. It is waited for the partner's word, though not for ever.
func TestAPCIsQuickerThanThePartner(t *testing.T) {
	a := newAsker(t)
	ca := &a.store.snapshot.CAs[0]
	ca.Kind, ca.URL, ca.Members = link.KindPartner, "https://ca.example/scep", []string{link.PartnerMember("softca")}
	a.meet()
	node := a.doc("identity.own").Document.Identifier
	print := fmt.Sprintf("%040d", 1)
	a.tree[node+"/Status"], a.tree[node+"/ErrorCode"], a.tree[node+"/CertThumbprint"] = "1", "0", print
	a.meet()
	a.want("identity.own", model.DocumentReady, platforms.ReasonIssuePending)
	if _, there := a.tree[node+"/CertThumbprint"]; !there {
		t.Fatal("the certificate is taken away")
	}
	a.issue(1)
	a.meet()
	a.want("identity.own", model.DocumentVerified, platforms.ReasonVerified)
	a.wantSent(1)

	a = newAsker(t)
	ca = &a.store.snapshot.CAs[0]
	ca.Kind, ca.URL, ca.Members = link.KindPartner, "https://ca.example/scep", []string{link.PartnerMember("softca")}
	a.meet()
	node = a.doc("identity.own").Document.Identifier
	a.tree[node+"/Status"], a.tree[node+"/ErrorCode"], a.tree[node+"/CertThumbprint"] = "1", "0", print
	a.now = a.now.Add(2 * time.Hour)
	a.meet()
	a.want("identity.own", model.DocumentFailed, platforms.ReasonDeviceRefused)
}
