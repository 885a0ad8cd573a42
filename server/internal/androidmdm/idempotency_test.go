package androidmdm_test

import (
	"errors"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	phone "github.com/waxseal/waxseal/agent/android"
	"github.com/waxseal/waxseal/agent/device"
	"github.com/waxseal/waxseal/internal/testpki"
	"github.com/waxseal/waxseal/platforms/android/companion"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/store"
)

// The list of android.md section 8.8, each line by its number: the real core and database on one side, the simulated app
// on the other. What each line means for the app alone is in package agent/android.
func TestIdempotency(t *testing.T) {
	tests := []struct {
		name string
		run  func(*house)
	}{
		{"8.8-1 a crash after installKeyPair, before it is noted", crashes(phone.ChaosCrashInstall)},
		{"8.8-2 a crash after it is noted, before it is told", crashes(phone.ChaosCrashReport)},
		{"8.8-3 the same state twice", sameStateTwice},
		{"8.8-4 another revision under the same alias", anotherRevision},
		{"8.8-5 the removal of what is not there", removalOfNothing},
		{"8.8-6 two runs of the app at once", twoRuns},
		{"8.8-7 the server is put back to an older generation", rollback},
		{"8.8-8 the app is installed anew", reinstalled},
		{"8.8-9 the user deletes a key", deleted},
		{"8.8-10 a phone is away for 200 days while its user leaves", away},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) { tt.run(newHouse(t)) })
	}
}

// crashes lets the app die at each key once; each is handed out once only.
func crashes(word string) func(*house) {
	return func(h *house) {
		d := h.device()
		h.ok(d.Chaos(word))
		died := 0
		for range 20 {
			_, err := d.Sync(h.Context(), 0)
			if err == nil {
				break
			}
			if !errors.Is(err, phone.ErrCrashed) {
				h.Fatal(err)
			}
			died++
		}
		h.verified(d, 3)
		if n := h.count("/payload"); died < 3 || n != 3 {
			h.Errorf("died %d times and fetched %d keys", died, n)
		}
	}
}

// count counts the requests whose path ends so.
func (h *house) count(suffix string) int {
	n := 0
	for _, c := range h.calls {
		if strings.HasSuffix(c, suffix) {
			n++
		}
	}
	return n
}

func sameStateTwice(h *house) {
	d := h.device()
	h.sync(d)
	h.calls = nil
	before := h.enrolment(d).Version
	h.sync(d)
	if slices.ContainsFunc(h.calls, func(c string) bool { return c != "GET "+companion.PathState }) || h.enrolment(d).Version != before {
		h.Errorf("called %v, version %d after %d", h.calls, h.enrolment(d).Version, before)
	}
	h.verified(d, 3)
}

// anotherRevision: settings change under their identifier, and are told once. A key has an alias for its certificate alone,
// so a further certificate installs over nothing, and no grant is lost.
func anotherRevision(h *house) {
	d := h.device()
	h.sync(d)
	before, changes := h.documents(d), d.Phone().Work.KeyChanges
	h.imported(h.newest())
	h.apply(profiles.Object{Kind: profiles.KindEmail, Name: "mail", Spec: &profiles.Email{AddressSource: profiles.SourcePrimaryAddress,
		SMIME: &profiles.SMIME{Encryption: profiles.SMIMEEncryption{ByDefault: true}}}})
	h.calls = nil
	h.sync(d)
	h.verified(d, 4)
	for id, doc := range h.documents(d) {
		if was, there := before[id]; there && (was.InstalledRevision == doc.InstalledRevision) == (id == "mail.mail") || len(doc.Leftovers) > 0 {
			h.Errorf("%s: revision %s after %s, %v left behind", id, doc.InstalledRevision, was.InstalledRevision, doc.Leftovers)
		}
	}
	if n := h.count("/status"); n != 3 || d.Phone().Work.KeyChanges != changes+2 { // key, grant, settings
		h.Errorf("%d reports, %d changes of the key chain after %d", n, d.Phone().Work.KeyChanges, changes)
	}
}

// newest is a certificate that is current from now on.
func (h *house) newest() testpki.Options {
	return testpki.Options{CN: "Alice", Emails: []string{"alice@corp.test"}, NotBefore: h.now.Add(-time.Hour), NotAfter: h.now.AddDate(9, 0, 0)}
}

func removalOfNothing(h *house) {
	d := h.device()
	h.sync(d)
	for _, alias := range d.Phone().Work.Aliases() {
		h.ok(d.DeleteKey(alias))
	}
	h.ok(h.db.SetDeviceState(h.Context(), d.Facts().DeviceID, model.DeviceRetiring, h.now, h.entry()))
	id := d.Facts().DeviceID
	h.sync(d)
	h.left(d, id, model.RemovalVerified)
}

// left wants an empty phone and the record of how that is known.
func (h *house) left(d *phone.Device, id string, how model.Removal) {
	h.Helper()
	got, err := h.db.DeviceByID(h.Context(), id)
	h.ok(err)
	if p := d.Phone(); got.State != model.DeviceLeft || got.Removal != how || d.Enrolled() || len(p.Work.Keys)+len(p.Work.CAs)+len(p.Restrictions) > 0 {
		h.Errorf("%s, removal %s, enrolled %t, %d keys", got.State, got.Removal, d.Enrolled(), len(d.Phone().Work.Keys))
	}
}

// twoRuns: the app's storage belongs to one run at a time, and whatever reaches the server twice counts once.
func twoRuns(h *house) {
	d := h.device()
	if _, err := phone.Open(phone.Config{State: d.Folder().Path(""), Clock: h}); !errors.Is(err, device.ErrBusy) {
		h.Errorf("a second run: %v", err)
	}
	h.sync(d, phone.ChaosDuplicate, phone.ChaosLost, phone.ChaosReorder)
	h.verified(d, 3)
	for range 2 {
		h.lose = func(r *http.Request) bool { return r.Method == http.MethodPut && len(h.calls)%2 == 0 }
		h.ok(d.DeleteKey(d.Phone().Work.Aliases()[0]))
		h.sync(d, phone.ChaosDuplicate)
	}
	h.verified(d, 3)
}

// rollback: the database is put back to a copy from before something that the app knows already.
func rollback(h *house) {
	d := h.device()
	first := h.copyOf()
	h.sync(d)
	h.verified(d, 3)
	second := h.copyOf()
	h.ok(h.db.DeleteObject(h.Context(), profiles.KindAssignment, "all", h.now, h.entry()))

	// The server knows nothing of what it told the app, and sees that it is there.
	h.restore(first)
	h.sync(d)
	h.verified(d, 3)
	h.restore(second)
	h.sync(d)
	h.verified(d, 3)
	h.collision(d)
}

// collision: what the app knows is a generation that the server has only now, with something else in it.
func (h *house) collision(d *phone.Device) {
	h.Helper()
	backup := h.copyOf()
	h.imported(h.newest())
	_, err := d.Poll(h.Context())
	h.ok(err)
	known := h.enrolment(d).Version
	h.restore(backup)
	h.ok(h.db.DeleteObject(h.Context(), profiles.KindAssignment, "all", h.now, h.entry()))
	if is := h.enrolment(d).Version; is >= known {
		h.Fatalf("the copy has generation %d, the app knows %d", is, known)
	}
	h.sync(d)
	if n := len(h.documents(d)); n > 0 {
		h.Errorf("%d documents are left, of %d keys", n, len(d.Phone().Work.Keys))
	}
}

func (h *house) restore(file string) {
	h.Helper()
	h.ok(h.db.Close())
	raw, err := os.ReadFile(file)
	h.ok(err)
	for _, suffix := range []string{"", "-wal", "-shm"} {
		_ = os.Remove(h.path + suffix)
	}
	h.ok(os.WriteFile(h.path, raw, 0o600))
	h.open()
}

// reinstalled: another installation is another device, whose app adopts the keys that it finds by their fingerprints.
func reinstalled(h *house) {
	d := h.device()
	h.sync(d)
	first := d.Facts().DeviceID
	keys := d.Phone().Work.KeyChanges
	h.ok(d.Chaos(phone.ChaosReinstall))
	if _, err := d.Sync(h.Context(), 0); !errors.Is(err, phone.ErrNotEnrolled) {
		h.Fatal(err)
	}
	h.ok(d.Chaos())
	fetched := h.count("/payload")
	h.ok(d.Enroll(h.Context(), h.link()))
	h.sync(d)
	h.verified(d, 3)
	if d.Facts().DeviceID == first || h.count("/payload") != fetched {
		h.Errorf("device %s after %s, %d keys fetched after %d, %d changes after %d", d.Facts().DeviceID, first, h.count("/payload"), fetched, d.Phone().Work.KeyChanges, keys)
	}
}

func deleted(h *house) {
	d := h.device()
	h.sync(d)
	h.ok(d.DeleteKey(d.Phone().Work.Aliases()[1]))
	h.sync(d)
	h.verified(d, 3)
}

// away uses the house's clock, which a journey cannot move: the user is retired, or loses the profiles, and nobody hears.
func away(h *house) {
	retired, bare := h.device(), h.device()
	h.sync(retired)
	h.sync(bare)
	id := retired.Facts().DeviceID
	h.imported(h.newest())
	h.ok(h.db.SetDeviceState(h.Context(), id, model.DeviceRetiring, h.now, h.entry()))
	h.ok(h.db.DeleteObject(h.Context(), profiles.KindAssignment, "all", h.now, h.entry()))
	for range 200 {
		h.now = h.now.Add(24 * time.Hour)
		h.ok(h.db.Sweep(h.Context(), h.now, store.Retention{Silence: 30 * 24 * time.Hour, Commands: 30 * 24 * time.Hour, Jobs: 90 * 24 * time.Hour}))
	}
	if got, err := h.db.DeviceByID(h.Context(), id); err != nil || got.Removal != model.RemovalUnconfirmed {
		h.Errorf("while it is away: %s %s %v", got.State, got.Removal, err)
	}
	h.removals(retired)
	h.left(retired, id, model.RemovalVerified)
	h.removals(bare)
	if n := len(bare.Phone().Work.Keys); n > 0 || !bare.Enrolled() || len(h.documents(bare)) > 0 {
		h.Errorf("without profiles: %d keys, enrolled %t, documents %v", n, bare.Enrolled(), h.documents(bare))
	}
}

// removals syncs a phone, which must be told to remove something, and nothing else.
func (h *house) removals(d *phone.Device) {
	h.Helper()
	h.states, h.calls = nil, nil
	h.sync(d)
	n := 0
	for _, s := range h.states {
		for _, i := range s.Items {
			if n++; i.Op != companion.OpRemove {
				h.Errorf("told to install %s", i.ID)
			}
		}
	}
	if n == 0 || h.count("/payload") > 0 {
		h.Errorf("%d items to remove, %d keys handed out", n, h.count("/payload"))
	}
}
