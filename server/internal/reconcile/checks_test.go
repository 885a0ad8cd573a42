package reconcile_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/reconcile"
)

// The checks of docs/checks.md that are this package's to keep.

// subject changes the subject that a profile asks for.
func (w *world) subject(name, subject string) {
	i := slices.IndexFunc(w.s.Objects, func(o profiles.Object) bool { return o.Name == name })
	switch spec := w.s.Objects[i].Spec.(type) {
	case *profiles.PKCSCertificate:
		changed := *spec
		changed.Subject = subject
		w.s.Objects[i].Spec = &changed
	case *profiles.SCEPCertificate:
		changed := *spec
		changed.Subject = subject
		w.s.Objects[i].Spec = &changed
	}
	w.s.Enrolment.Dirty = true
}

func (w *world) asked(kind link.JobKind) (n int) {
	for _, j := range w.jobs {
		if j.Kind == kind {
			n++
		}
	}
	return n
}

// TestPK02OfADeviceWithoutTheName (PK-02, PK-08): while a name of the device is not known, no certificate is asked for, nor
// is that decided over and over; once the device tells it, the certificate comes.
func TestPK02OfADeviceWithoutTheName(t *testing.T) {
	w := newWorld(t)
	w.subject("sign", "CN={{IMEINumber}}")
	w.settle()
	if n := w.asked(link.JobIssue); n != 0 || len(w.s.Issued) != 0 {
		t.Errorf("%d certificates were asked for without their name", n)
	}
	if r := w.step(reconcile.Report{Outcome: reconcile.OutcomeIdle}); !r.Decision.Empty() {
		t.Errorf("a second look changes something: %+v", r.Decision)
	}
	w.s.Device.IMEI, w.s.Enrolment.Dirty = "356938035643809", true
	w.settle()
	if len(w.s.Issued) != 1 {
		t.Errorf("%d certificates, though the name is known now", len(w.s.Issued))
	}
}

// TestSC04NamesOfTheDevice: a certificate for a key of the device's own can have names of the device and of its user.
func TestSC04NamesOfTheDevice(t *testing.T) {
	for subject, want := range map[string]string{"CN={{SerialNumber}}": "F2LX", "CN={{DeviceName}}": "phone", "CN={{DeviceId}}": "d1", "CN={{UserName}}": "Alice", "CN={{IMEINumber}}": ""} {
		t.Run("SC-04 "+subject, func(t *testing.T) {
			w := newOwn(t)
			w.s.Device.SerialNumber, w.s.Device.Name = "F2LX", "phone"
			w.subject("own", subject)
			orders := reconcile.Orders(w.s, reconcile.Settings{}, w.now)
			if (len(orders) == 1) != (want != "") || len(orders) == 1 && !strings.Contains(string(orders[0].Subject), want) {
				t.Errorf("%+v, want %q", orders, want)
			}
		})
	}
}

// TestCN03OnlyWhoOffersTheCA: a CA is asked, for a certificate and for its revocation, by connectors that offer it.
func TestCN03OnlyWhoOffersTheCA(t *testing.T) {
	w := newWorld(t)
	w.s.CAs = []link.CA{{Name: "other", Certificate: []byte("root"), Members: []string{"m1"}}, {Name: "softca", Certificate: []byte("root"), Members: []string{"m2", "m3"}}}
	w.settle()
	w.s.Device.State, w.s.Enrolment.Dirty = model.DeviceRetiring, true
	w.settle()
	kinds := map[link.JobKind]bool{}
	for key, j := range w.jobs {
		if j.Kind != link.JobRender {
			kinds[j.Kind] = true
			if !slices.Equal(j.Needs, []string{"m2", "m3"}) {
				t.Errorf("%s goes to %q", key, j.Needs)
			}
		}
	}
	if !kinds[link.JobIssue] || !kinds[link.JobRevoke] {
		t.Errorf("jobs %v", kinds)
	}
}

// TestLC05LongAway: who comes back after years is told to remove what was imported, and no CA hears of it.
func TestLC05LongAway(t *testing.T) {
	for _, way := range []string{"retired", "unassigned"} {
		t.Run("LC-05 "+way, func(t *testing.T) {
			w := newWorld(t)
			w.assign("hist")
			w.settle()
			if !slices.Equal(w.held["io.waxseal.history"], []string{"k1"}) {
				t.Fatalf("the device has %v", w.held)
			}
			if way == "retired" {
				w.s.Device.State, w.s.Enrolment.Dirty = model.DeviceRetiring, true
			} else {
				w.s.Objects, w.s.Generation = w.s.Objects[:2], 2
			}
			before := w.asked(link.JobRender)
			w.now = w.now.Add(8 * 52 * week) // the certificates have ended, too
			w.s.ConnectorSeen = w.now
			w.settle()
			if len(w.docs) != 0 || len(w.s.Documents) != 0 {
				t.Errorf("the device has %v, the store %d documents", w.docs, len(w.s.Documents))
			}
			if n := w.asked(link.JobRevoke) + w.asked(link.JobIssue) + w.asked(link.JobRender) - before; n != 0 || len(w.status) != 0 {
				t.Errorf("%d jobs for a connector, changes %v", n, w.status)
			}
			if way == "retired" && (w.s.Device.State != model.DeviceLeft || w.s.Device.Removal != model.RemovalVerified) {
				t.Errorf("device is %s/%s", w.s.Device.State, w.s.Device.Removal)
			}
		})
	}
}

// TestPK08ANameThatDoesNotFitIsSaid (PK-08): no certificate is asked for, and the document says which name it is and why.
func TestPK08ANameThatDoesNotFitIsSaid(t *testing.T) {
	w := newOwn(t)
	w.s.User.Spec.DisplayName = strings.Repeat("Alice ", 11)
	w.edit = func(docs []platforms.Document) []platforms.Document { // as the platforms plan it where nothing was ordered
		return append(docs, platforms.Document{ID: "identity.own", Identifier: "io.waxseal.identity.own", Profiles: []string{"own"},
			Reason: platforms.ReasonNotDeliverable, Detail: "SCEPCertificate own: its subject cannot be written for this device"})
	}
	w.settle()
	if n := w.asked(link.JobIssue); n != 0 {
		t.Errorf("%d orders", n)
	}
	for id, begins := range map[string]string{"mail.m": "PKCSCertificate sign: subject CN: ", "identity.own": "SCEPCertificate own: its subject cannot be written for this device; subject CN: "} {
		w.want(id, model.DocumentWaiting, platforms.ReasonNotDeliverable)
		if d := w.doc(id); !strings.HasPrefix(d.Detail, begins) || !strings.Contains(d.Detail, "64") {
			t.Errorf("%s: %q", id, d.Detail)
		}
	}
	w.s.User.Spec.DisplayName, w.edit, w.s.Enrolment.Dirty = "Alice", nil, true
	w.settle()
	w.want("mail.m", model.DocumentVerified, platforms.ReasonVerified)
}
