package delivery_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/platforms/apple/mdm"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/delivery"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/reconcile"
)

// memory is a store of one enrolment.
type memory struct {
	snapshot   delivery.Snapshot
	generation int64
	conflicts  int // how many Saves fail before one works
	saves      int
	snapshots  int
	touched    int
	saved      delivery.Decision
}

func (m *memory) Snapshot(context.Context, string) (delivery.Snapshot, error) {
	m.snapshots++
	return m.snapshot, nil
}

func (m *memory) Save(_ context.Context, d delivery.Decision) error {
	m.saves++
	if m.conflicts > 0 {
		m.conflicts--
		return model.ErrConflict
	}
	m.saved = d
	return nil
}
func (m *memory) Generation(context.Context) (int64, error)      { return m.generation, nil }
func (m *memory) Touch(context.Context, string, time.Time) error { m.touched++; return nil }
func (m *memory) EnrolmentOfDevice(context.Context, string, string) (model.Enrolment, error) {
	return m.snapshot.Enrolment, nil
}
func (m *memory) LastCommand(context.Context, string, string) (model.Command, error) {
	return model.Command{}, model.ErrNotFound
}

var now = time.Date(2026, 11, 24, 8, 0, 0, 0, time.UTC)

func service(m *memory, plan delivery.Planner) *delivery.Service {
	m.snapshot.Enrolment.ID, m.snapshot.Enrolment.Platform = "e1", profiles.IOS
	m.snapshot.Enrolment.State, m.snapshot.Device.State = model.EnrolmentActive, model.DeviceEnrolled
	n := 0
	return delivery.New(delivery.Config{Store: m, Clock: func() time.Time { return now }, CanDecrypt: func([]byte) bool { return true },
		Planners: map[profiles.Platform]delivery.Planner{profiles.IOS: plan}, NewUUID: func() string { n++; return strings.Repeat("A", n) }})
}

func nothing(platforms.Input) []platforms.Document { return nil }

var idle = reconcile.Report{Outcome: reconcile.OutcomeIdle}

func TestASettledDeviceCostsNoSnapshot(t *testing.T) {
	m := &memory{generation: 3}
	s := service(m, nothing)
	enr := model.Enrolment{ID: "e1", SettledGeneration: 3, InventoryAt: now.Add(time.Hour)}
	if r, err := s.Step(t.Context(), enr, idle); err != nil || r.Action != nil || m.snapshots != 0 || m.touched != 1 {
		t.Errorf("%+v, %v; %d snapshots, touched %d times", r, err, m.snapshots, m.touched)
	}
	for name, change := range map[string]func(*model.Enrolment){
		"dirty":          func(e *model.Enrolment) { e.Dirty = true },
		"old generation": func(e *model.Enrolment) { e.SettledGeneration = 2 },
		"inventory due":  func(e *model.Enrolment) { e.InventoryAt = now },
	} {
		e := enr
		change(&e)
		before := m.snapshots
		if _, err := s.Step(t.Context(), e, idle); err != nil || m.snapshots == before {
			t.Errorf("%s: %v, no snapshot was taken", name, err)
		}
	}
}

func TestAConflictIsDecidedAgainAndNotForEver(t *testing.T) {
	m := &memory{conflicts: 3}
	if r, err := service(m, nothing).Step(t.Context(), model.Enrolment{ID: "e1", Dirty: true}, idle); err != nil || r.Action == nil || m.snapshots != 4 {
		t.Errorf("%+v, %v after %d snapshots", r.Action, err, m.snapshots)
	}
	m = &memory{conflicts: 100}
	if _, err := service(m, nothing).Step(t.Context(), model.Enrolment{ID: "e1", Dirty: true}, idle); !errors.Is(err, model.ErrConflict) || m.saves > 10 {
		t.Errorf("%v after %d saves", err, m.saves)
	}
}

func apple(m *memory, plan delivery.Planner) *delivery.Apple {
	return &delivery.Apple{Service: service(m, plan), EnrolmentIdentifier: "io.waxseal.x.enrollment",
		Sign: func(p []byte) ([]byte, error) { return append([]byte("signed:"), p...), nil }}
}

func TestASecretDocumentIsCarriedUnread(t *testing.T) {
	m := &memory{}
	doc := platforms.Document{ID: "history", Identifier: "io.waxseal.x.history", Revision: "r1", Proof: "P",
		Credentials: []profiles.Certificate{{SHA256: "k1"}}}
	m.snapshot.Documents = []model.DocumentState{{Document: doc, Payload: []byte("ciphertext"), PayloadRevision: "r1"}}
	body, _, err := apple(m, func(platforms.Input) []platforms.Document { return []platforms.Document{doc} }).
		Report(t.Context(), model.Enrolment{ID: "e1", Dirty: true}, &mdm.Report{Status: "Idle"})
	if err != nil {
		t.Fatal(err)
	}
	c, err := mdm.DecodeCommand(body)
	if err != nil || c.Command.RequestType != "InstallProfile" || !bytes.Equal(c.Command.Payload, []byte("signed:ciphertext")) {
		t.Errorf("%+v, %v", c, err)
	}
}

func TestAppleErrorsBecomeSentences(t *testing.T) {
	m := &memory{}
	m.snapshot.Commands = []model.Command{{UUID: "C1", RequestType: "install", DocumentID: "trust", Revision: "r", State: model.CommandSent}}
	doc := platforms.Document{ID: "trust", Identifier: "i", Revision: "r"}
	m.snapshot.Documents = []model.DocumentState{{Document: doc, Status: model.DocumentSent, SentRevision: "r"}}
	_, _, err := apple(m, func(platforms.Input) []platforms.Document { return []platforms.Document{doc} }).Report(t.Context(), model.Enrolment{ID: "e1"},
		&mdm.Report{Status: "Error", CommandUUID: "C1", ErrorChain: []mdm.ErrorItem{{ErrorDomain: "MCCertificateErrorDomain", ErrorCode: 9000}}})
	if err != nil || len(m.saved.Documents) != 1 {
		t.Fatalf("%v, %d documents", err, len(m.saved.Documents))
	}
	d := m.saved.Documents[0]
	if d.Reason != platforms.ReasonDeviceRefused || !strings.Contains(d.Detail, "9000") || !strings.Contains(d.Detail, "password") {
		t.Errorf("%s: %q", d.Reason, d.Detail)
	}
}

func TestRetireRemovesTheEnrolmentProfileByItsIdentifier(t *testing.T) {
	m := &memory{}
	m.snapshot.Inventory = model.Inventory{FactsAt: now, ProfilesAt: now, Profiles: map[string]string{}, CertificatesAt: now, Certificates: map[string]bool{}}
	a := apple(m, nothing)
	m.snapshot.Device.State = model.DeviceRetiring
	body, _, err := a.Report(t.Context(), model.Enrolment{ID: "e1", Dirty: true}, &mdm.Report{Status: "Idle"})
	if err != nil || !bytes.Contains(body, []byte("RemoveProfile")) || !bytes.Contains(body, []byte("io.waxseal.x.enrollment")) {
		t.Errorf("%s, %v", body, err)
	}
}

func TestAnEmptyListMeansThatTheDeviceHasNothing(t *testing.T) {
	m := &memory{}
	doc := platforms.Document{ID: "history", Identifier: "i", Revision: "r", Proof: "P", Credentials: []profiles.Certificate{{SHA256: "k"}}}
	m.snapshot.Commands = []model.Command{{UUID: "C1", RequestType: "listDocuments", State: model.CommandSent}}
	m.snapshot.Inventory = model.Inventory{FactsAt: now, CertificatesAt: now, Certificates: map[string]bool{}}
	m.snapshot.Documents = []model.DocumentState{{Document: doc, Status: model.DocumentVerified, InstalledRevision: "r", InstalledProof: "P"}}
	_, _, err := apple(m, func(platforms.Input) []platforms.Document { return []platforms.Document{doc} }).
		Report(t.Context(), model.Enrolment{ID: "e1"}, &mdm.Report{Status: "Acknowledged", CommandUUID: "C1"})
	if err != nil || m.saved.Documents[0].InstalledRevision != "" {
		t.Errorf("%v: a document that the list lacks must count as gone: %+v", err, m.saved.Documents)
	}
}

func TestADocumentThatCannotBeWrittenIsPutDownAsFailed(t *testing.T) {
	m := &memory{}
	bad := platforms.Document{ID: "custom.bad", Identifier: "i", Revision: "r", Proof: "P"} // no body
	a := apple(m, func(platforms.Input) []platforms.Document { return []platforms.Document{bad} })
	_, _, err := a.Report(t.Context(), model.Enrolment{ID: "e1", Dirty: true}, &mdm.Report{Status: "Idle"})
	if err == nil || m.saves != 5 {
		t.Errorf("%v after %d saves: the fake store forgets, so the bound must end it", err, m.saves)
	}
	m.snapshot.Documents = m.saved.Documents
	m.snapshot.Commands = m.saved.Commands
	result, err := a.Service.Step(t.Context(), model.Enrolment{ID: "e1", Dirty: true}, reconcile.Report{Outcome: reconcile.OutcomeFailed,
		CommandUUID: m.saved.Commands[len(m.saved.Commands)-1].UUID, Error: "no body", Reason: platforms.ReasonRenderFailed})
	if err != nil || m.saved.Documents[0].Reason != platforms.ReasonRenderFailed || result.Action.Kind == reconcile.ActionInstall {
		t.Errorf("%+v, %v", m.saved.Documents, err)
	}
}
