package delivery_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/platforms/windows/syncml"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
)

func TestAPCGetsEverything(t *testing.T) {
	k := newTalk(t)
	if got := short(k.hear()); got != "Add EncodedCertificate" {
		t.Fatalf("first: %s", got)
	}
	if got := short(k.hear(k.obey()...)); got != "Get EncodedCertificate" {
		t.Fatalf("read back: %s", got)
	}
	k.tree["./DevDetail/SwV"], k.tree["./DevDetail/Ext/Microsoft/DeviceName"] = "10.0.26100.1", "PC-0001"
	if got := short(k.hear(k.obey()...)); got != "Get DeviceName,Get Mod,Get SwV,Get SMBIOSSerialNumber" {
		t.Fatalf("facts: %s", got)
	}
	if got := short(k.hear(k.obey()...)); got != "Get PFXCertInstall,Get PFXCertInstall,Get SCEP,Get Root,Get CA,Get ADMXInstall" {
		t.Fatalf("lists: %s", got)
	}
	if commands, pending, err := k.exchange(k.obey()...); len(commands) != 0 || pending != 1 || err != nil || len(k.s.State) != 0 {
		t.Fatalf("both lists come by one answer: %s, pending %d, %v", short(commands), pending, err)
	}
	k.want("trust", model.DocumentVerified, platforms.ReasonVerified)
	k.want("history", model.DocumentWaiting, platforms.ReasonRenderPending)
	if d := k.store.snapshot.Device; d.Name != "PC-0001" || d.OSVersion != "10.0.26100.1" {
		t.Errorf("facts %+v", d)
	}

	k.render()
	k.session("user")
	k.hear()
	if got := short(k.hear(k.obey()...)); got != "Get Status,Get Thumbprint" {
		t.Fatalf("after the Atomic: %s", got)
	}
	if got := short(k.hear(k.obey()...)); !strings.HasSuffix(got, ",Get Thumbprint") {
		t.Fatalf("the list reads the thumbprint of what is installed: %s", got)
	}
	k.run()
	k.want("history", model.DocumentVerified, platforms.ReasonVerified)
	if d := k.doc("history"); len(d.Payload) != 0 {
		t.Error("the payload must be erased when the PC confirms")
	}
	k.session("user")
	if got := k.hear(); len(got) != 0 {
		t.Errorf("a settled PC is asked %s", short(got))
	}
	k.leaks()
}

func TestRemovals(t *testing.T) {
	tests := []struct {
		code int
		gone bool // in the PC's words
	}{{200, true}, {404, true}, {500, false}, {405, false}, {214, false}, {215, false}}
	for _, tt := range tests {
		k := newTalk(t)
		k.settle()
		k.want("history", model.DocumentVerified, platforms.ReasonVerified)
		k.store.snapshot.Objects[2], k.store.generation = assigned("root"), 2
		k.session("user")
		if got := short(k.hear()); got != "Delete "+sha1Of {
			t.Fatalf("asked: %s", got)
		}
		k.spoil = func(c syncml.Command) (int, string) {
			if c.Verb == syncml.Delete && !(tt.gone && k.drop(c.Items[0].Target)) {
				return tt.code, "0x86000002"
			}
			return 0, ""
		}
		k.hear(k.obey()...)
		d := k.doc("history")
		if tt.gone && d.Status != model.DocumentRemoved || !tt.gone && (d.Status != model.DocumentRemoving || d.Attempts != 1 || strings.Contains(d.Detail, "import")) {
			t.Errorf("%d: %s/%s %s", tt.code, d.Status, d.Reason, d.Detail)
		}
		k.run()
		if d := k.doc("history"); (d.Document.ID == "") != tt.gone {
			t.Errorf("%d: in the end %s/%s %s", tt.code, d.Status, d.Reason, d.Detail)
		}
	}
}

// TestAListWithHoles: a node that could not be read is no proof that something is gone.
func TestAListWithHoles(t *testing.T) {
	refuse := func(leaf string, code int) func(*talk) []syncml.Command {
		return func(k *talk) []syncml.Command {
			k.spoil = func(c syncml.Command) (int, string) {
				if c.Verb == syncml.Get && strings.HasSuffix(c.Items[0].Target, leaf) {
					return code, ""
				}
				return 0, ""
			}
			return k.obey()
		}
	}
	tests := []struct {
		name     string
		said     func(*talk) []syncml.Command
		vanished bool
	}{
		{"the user's list is refused", refuse("User/Vendor/MSFT/ClientCertificateInstall/PFXCertInstall", 405), false},
		{"the user's list fails", refuse("User/Vendor/MSFT/ClientCertificateInstall/PFXCertInstall", 500), false},
		{"cancelled", refuse("", 214), false},
		{"a thumbprint fails", refuse("/Thumbprint", 500), false},
		{"one answer of many", func(k *talk) []syncml.Command { return k.obey()[:1] }, false},
		{"no thumbprint", refuse("/Thumbprint", 404), true},
		{"no list", refuse("User/Vendor/MSFT/ClientCertificateInstall/PFXCertInstall", 404), true},
		{"a list that nobody needs", refuse("ADMXInstall", 500), false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k := newTalk(t)
			k.settle()
			k.now = k.now.Add(25 * time.Hour)
			k.store.snapshot.ConnectorSeen = k.now
			k.session("user")
			k.hear()
			k.hear(k.obey()...) // facts
			k.hear(tt.said(k)...)
			if d := k.doc("history"); (d.InstalledRevision == "") != tt.vanished || (d.Reason == platforms.ReasonVerified) == tt.vanished {
				t.Errorf("%s/%s %s", d.Status, d.Reason, d.Detail)
			}
			k.want("trust", model.DocumentVerified, platforms.ReasonVerified)
		})
	}
}

// TestTheListIsOfWhatIsInstalled, though the plan names another node by now.
func TestTheListIsOfWhatIsInstalled(t *testing.T) {
	k := newTalk(t)
	k.settle()
	for i := range k.store.snapshot.Documents { // as a renewed certificate does it
		if d := &k.store.snapshot.Documents[i]; strings.HasPrefix(d.Document.ID, "history") {
			d.InstalledIdentifier, d.InstalledProof, d.InstalledRevision = userPFX+"/OLD", "OLD", "former"
			d.InstalledCredentials = []string{strings.Repeat("cd", 32)}
		}
	}
	k.tree[userPFX+"/OLD/Thumbprint"] = "old"
	k.store.snapshot.Inventory.ProfilesAt, k.store.snapshot.Inventory.CertificatesAt = time.Time{}, time.Time{}
	k.store.snapshot.Enrolment.Dirty = true
	k.session("user")
	k.hear()
	if got := short(k.asked); !strings.HasSuffix(got, ",Get Thumbprint") {
		t.Fatalf("asked: %s", got)
	}
	k.hear(k.obey()...)
	if i := k.store.snapshot.Inventory; i.Profiles[userPFX+"/OLD"] != "OLD" || !i.Certificates[strings.Repeat("cd", 32)] {
		t.Errorf("the inventory: %v %v", i.Profiles, i.Certificates)
	}
}

func mail(byDefault bool) profiles.Object {
	return profiles.Object{Kind: profiles.KindEmail, Name: "mail", Spec: &profiles.Email{AccountName: "Mail", Exchange: &profiles.Exchange{Host: "mail.corp.test"},
		SMIME: &profiles.SMIME{Encryption: profiles.SMIMEEncryption{ByDefault: byDefault, UserMayChange: true, Certificate: "hist"}}}}
}

func withMail(t *testing.T) *talk {
	k := newTalk(t)
	k.store.snapshot.Objects = append(k.store.snapshot.Objects[:2], mail(true), assigned("root", "hist", "mail"))
	return k
}

func TestOutlooksPoliciesChange(t *testing.T) {
	k := withMail(t)
	k.settle()
	k.want("mail.", model.DocumentVerified, platforms.ReasonVerified)
	first := k.doc("mail.").Document.Revision
	k.store.snapshot.Objects[2], k.store.generation = mail(false), 2
	k.settle()
	k.want("mail.", model.DocumentVerified, platforms.ReasonVerified)
	if d := k.doc("mail."); d.Document.Revision == first || len(k.children("./Device/Vendor/MSFT/Policy/ConfigOperations/ADMXInstall/Waxseal/Policy")) != 1 {
		t.Errorf("files %q", k.children("./Device/Vendor/MSFT/Policy/ConfigOperations/ADMXInstall/Waxseal/Policy"))
	}
}

// TestPoliciesChangeBeforeTheyWereListed: what was installed just now is known to stand there, too.
func TestPoliciesChangeBeforeTheyWereListed(t *testing.T) {
	k := withMail(t)
	k.hear()
	k.run()
	k.render()
	k.session("user")
	for k.hear(); k.doc("mail.").InstalledRevision == ""; k.hear(k.obey()...) {
		if len(k.asked) == 0 {
			t.Fatal("the policies are not installed")
		}
	}
	k.store.snapshot.Objects[2], k.store.generation = mail(false), 2
	k.session("user")
	if got := short(k.hear()); !strings.Contains(got, "Delete Waxseal,Add ") {
		t.Errorf("asked: %s", got)
	}
}

// TestOneOfSeveralDeletesFails: that the others find nothing does not make it a success.
func TestOneOfSeveralDeletesFails(t *testing.T) {
	k := withMail(t)
	k.settle()
	k.store.snapshot.Objects[3], k.store.generation = assigned("root", "hist"), 2
	k.session("user")
	if got := short(k.hear()); !strings.HasSuffix(got, "Delete Waxseal") {
		t.Fatalf("asked: %s", got)
	}
	k.spoil = func(c syncml.Command) (int, string) {
		switch {
		case c.Verb != syncml.Delete:
			return 0, ""
		case strings.HasSuffix(c.Items[0].Target, "/Waxseal"):
			return 500, ""
		}
		return 404, ""
	}
	k.hear(k.obey()...)
	if d := k.doc("mail."); d.Status != model.DocumentRemoving || d.Attempts != 1 {
		t.Errorf("%s/%s %s", d.Status, d.Reason, d.Detail)
	}
}

// TestADocumentWithoutANodeIsRemovedWithoutACommand, or it would hold up everything else.
func TestADocumentWithoutANodeIsRemovedWithoutACommand(t *testing.T) {
	k := newTalk(t)
	k.settle()
	k.store.snapshot.Documents = append(k.store.snapshot.Documents, model.DocumentState{Document: platforms.Document{ID: "a"}, Status: model.DocumentVerified,
		InstalledRevision: "r"})
	k.store.snapshot.Enrolment.Dirty = true
	k.session("user")
	if got := short(k.hear()); !strings.HasPrefix(got, "Get PFXCertInstall") {
		t.Errorf("asked: %s", got)
	}
	k.run()
	if d := k.doc("a"); d.Document.ID != "" {
		t.Errorf("%s/%s %s", d.Status, d.Reason, d.Detail)
	}
}

// LC-06: the PC is told to forget everything; no wipe is sent that would keep the enrolment.
func TestLC06Wipe(t *testing.T) {
	for code, left := range map[int]bool{200: true, 202: true, 404: false, 405: false, 500: false, 214: false, 215: false} {
		k := newTalk(t)
		k.store.snapshot.Device.State = model.DeviceWiping
		if got := short(k.hear()); got != "Exec doWipe" {
			t.Fatalf("asked: %s", got)
		}
		commands := k.hear(k.status(k.asked[0], code, ""))
		d := k.store.snapshot.Device
		if (d.State == model.DeviceLeft) != left || (d.Removal == model.RemovalReported) != left || len(commands) != 0 {
			t.Errorf("%d: %s/%s, then %s", code, d.State, d.Removal, short(commands))
		}
	}
}

func TestRetire(t *testing.T) {
	for code, left := range map[int]bool{200: true, 404: true, 500: false, 215: false} {
		k := newTalk(t)
		k.settle()
		k.store.snapshot.Device.State, k.store.snapshot.Enrolment.Dirty = model.DeviceRetiring, true
		k.session("user")
		k.hear()
		for range 20 {
			if len(k.asked) == 0 || strings.HasPrefix(short(k.asked), "Exec") {
				break
			}
			k.hear(k.obey()...)
		}
		if len(k.asked) != 1 || k.asked[0].Items[0].Target != "./Device/Vendor/MSFT/DMClient/Provider/Wax%20seal/Unenroll" || len(k.tree) != 0 {
			t.Fatalf("asked: %s, the PC has %v", short(k.asked), k.tree)
		}
		if commands := k.hear(k.status(k.asked[0], code, "")); len(commands) != 0 {
			t.Errorf("%d: then %s", code, short(commands))
		}
		if d := k.store.snapshot.Device; (d.State == model.DeviceLeft) != left || d.Removal != model.RemovalVerified {
			t.Errorf("%d: %s/%s", code, d.State, d.Removal)
		}
	}
}

// TestARepeatedMessage is offered what it was offered before.
func TestARepeatedMessage(t *testing.T) {
	for name, k := range map[string]*talk{"install": newTalk(t), "key": atPFX(t), "reading back": atPFX(t), "wipe": newTalk(t)} {
		switch name {
		case "wipe":
			k.store.snapshot.Device.State = model.DeviceWiping
			k.hear()
		case "install":
			k.hear()
		case "reading back":
			k.hear(k.obey()...)
		}
		asked, uuid, state := short(k.asked), k.uuid(), string(k.s.State)
		if got := short(k.hear()); got != asked || k.uuid() != uuid || string(k.s.State) != state {
			t.Errorf("%s: %s under %s, then %s under %s", name, asked, uuid, got, k.uuid())
		}
	}
}

func TestAnswersToOtherCommands(t *testing.T) {
	k := newTalk(t)
	k.hear()
	other := k.asked[0]
	other.ID = "99"
	if got := short(k.hear(k.status(other, 200, ""))); got != "Add EncodedCertificate" {
		t.Errorf("then %s", got)
	}
	k.want("trust", model.DocumentSent, platforms.ReasonNew)
}

func TestAStateThatCannotBeRead(t *testing.T) {
	for _, state := range []string{"{", "[]", "null", "{}", `"x"`, `{"sent":[]}`, `{"action":"erase","sent":[]}`, `{"sent":[{"id":3}]}`, `{"action":"install","uuid":"C1","reading":true,"sent":null}`} {
		k := newTalk(t)
		k.hear()
		said := k.obey()
		k.s.State = json.RawMessage(state)
		if got := short(k.hear(said...)); got != "Add EncodedCertificate" {
			t.Errorf("%s: then %q", state, got)
		}
		k.want("trust", model.DocumentSent, platforms.ReasonNew)
	}
}

func TestWhatCannotBeWrittenIsPutDownAsFailed(t *testing.T) {
	k := newTalk(t)
	k.hear()
	k.run()
	k.render()
	for i := range k.store.snapshot.Documents {
		if d := &k.store.snapshot.Documents[i]; len(d.Payload) > 0 {
			d.Payload = []byte(`{"identifier":"` + password + `"}`)
		}
	}
	k.session("user")
	if got := k.hear(); len(got) != 0 {
		t.Errorf("asked: %s", short(got))
	}
	k.want("history", model.DocumentFailed, platforms.ReasonRenderFailed)
	k.leaks()
}

func TestFaultsOfTheStoreAreOurs(t *testing.T) {
	k := newTalk(t)
	k.hear()
	said := k.obey()
	k.store.fail = errors.New("disk on fire")
	k.hear(said...) // nothing is read for the reading back
	if _, _, err := k.exchange(k.obey()...); err == nil {
		t.Error("a fault of the store is no word of the PC")
	}
	k = newTalk(t)
	k.store.fail = errors.New("disk on fire")
	if _, _, err := k.exchange(); err == nil || k.s.State != nil {
		t.Errorf("%v, %s", err, k.s.State)
	}
}

func TestNothingOfTheUsersWhileTheUserIsAway(t *testing.T) {
	for _, login := range []string{"", "others", "none"} {
		k := newTalk(t)
		k.session(login)
		for k.hear(); len(k.asked) > 0; k.hear(k.obey()...) {
			for _, c := range k.asked {
				if strings.HasPrefix(c.Items[0].Target, "./User") {
					t.Errorf("%q: %s", login, short(k.asked))
				}
			}
		}
		k.want("trust", model.DocumentInstalled, platforms.ReasonInstalled)
		k.render()
		k.session(login)
		if got := k.hear(); len(got) != 0 {
			t.Errorf("%q: %s", login, short(got))
		}
		k.want("history", model.DocumentWaiting, platforms.ReasonUserNotLoggedOn)
		k.settle()
		k.want("history", model.DocumentVerified, platforms.ReasonVerified)
	}
}
