package storetest

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/waxseal/waxseal/server/internal/admin"
	"github.com/waxseal/waxseal/server/internal/delivery"
	"github.com/waxseal/waxseal/server/internal/model"
)

func adminPage() admin.Page { return admin.Page{Limit: 100} }

func deliveryClasses() []class {
	return []class{
		{"decisions", decisions}, {"decisions/every-field", everyField}, {"decisions/conflict", conflicts}, {"decisions/what-conflicts", whatConflicts},
		{"decisions/atomic", saveAtomic}, {"decisions/records", keepsRecords}, {"decisions/certificates", certificateChanges}, {"touch", touches}, {"push", pushes}, {"push/lost-token", pushLost},
		{"push/back-off", pushBackOff}, {"push/talking", pushTalking}, {"push/by-time", pushByTime}, {"push/topics", pushTopics},
	}
}

func decisions(_ *testing.T, f *fixture) {
	e := f.enrol(f.user("a@x.example"), f.connector("m1"), "UDID")
	f.decide(e.ID, func(d *delivery.Decision, s delivery.Snapshot) {
		a, b := document("a", "r1"), document("b", "r1")
		a.Payload, a.PayloadRevision = []byte("payload"), "r1"
		d.Documents = []model.DocumentState{a, b}
		d.Commands = []model.Command{{UUID: "c2", RequestType: "InstallProfile", State: model.CommandSent, CreatedAt: f.now.Add(time.Second)},
			{UUID: "c1", RequestType: "ProfileList", State: model.CommandNotNow, CreatedAt: f.now}}
		d.Inventory = &model.Inventory{ProfilesAt: f.now, Profiles: map[string]string{"id": "UUID"}}
		s.Enrolment.SettledGeneration, s.Enrolment.LastSeen = 7, f.now.Add(time.Hour)
		d.Enrolment = &s.Enrolment
		s.Device.OSVersion = "19.0"
		d.Device = &s.Device
		d.Audit = []model.AuditEntry{f.audit("document.sent")}
	})
	s := f.snapshot(e.ID)
	equal(f, "version", s.Enrolment.Version, e.Version+1)
	equal(f, "settled", s.Enrolment.SettledGeneration, int64(7))
	equal(f, "last seen is not Save's", s.Enrolment.LastSeen, e.LastSeen)
	equal(f, "os", s.Device.OSVersion, "19.0")
	equal(f, "documents", len(s.Documents), 2)
	equal(f, "payload", string(s.Documents[0].Payload), "payload")
	equal(f, "oldest command first", s.Commands[0].UUID+s.Commands[1].UUID, "c1c2")
	equal(f, "inventory", s.Inventory.Profiles["id"], "UUID")
	equal(f, "audited", f.audited("document.sent"), 1)
	bare := get(f.DocumentsOfEnrolment(f.ctx, e.ID))(f)
	equal(f, "no payload", len(bare[0].Payload), 0)
	equal(f, "but its revision", bare[0].PayloadRevision, "r1")

	f.decide(e.ID, func(d *delivery.Decision, _ delivery.Snapshot) {
		d.Forget = []string{"b", "never-there"}
		d.Commands = []model.Command{{UUID: "c1", State: model.CommandDone, UpdatedAt: f.now}}
	})
	s = f.snapshot(e.ID)
	equal(f, "documents", len(s.Documents), 1)
	equal(f, "open commands", len(s.Commands), 1)
	equal(f, "done command", get(f.LastCommand(f.ctx, e.ID, "c1"))(f).State, model.CommandDone)
	_, err := f.LastCommand(f.ctx, e.ID, "c3")
	f.is(err, model.ErrNotFound)
	_, err = f.LastCommand(f.ctx, "another", "c1")
	f.is(err, model.ErrNotFound)
	equal(f, "inventory stays", s.Inventory.Profiles["id"], "UUID")
	_, err = f.Snapshot(f.ctx, "none")
	f.is(err, model.ErrNotFound)
	f.is(f.Save(f.ctx, delivery.Decision{EnrolmentID: "none"}), model.ErrNotFound)
}

// keepsRecords: what was on a device that leaves stays to be told, and no decision sees it any more.
func keepsRecords(_ *testing.T, f *fixture) {
	e := f.enrol(f.user("a@x.example"), f.connector("m1"), "UDID")
	doc := document("history", "r1")
	doc.InstalledRevision = "r1"
	f.decide(e.ID, func(d *delivery.Decision, _ delivery.Snapshot) {
		d.Documents = []model.DocumentState{doc, document("mail", "r1")}
	})
	record, had := doc.AsRecord(model.RemovalVerified)
	equal(f, "it was there", had, true)
	f.decide(e.ID, func(d *delivery.Decision, _ delivery.Snapshot) {
		d.Forget, d.Records = []string{"history", "mail"}, []model.DocumentState{record}
	})
	equal(f, "documents of the next decision", len(f.snapshot(e.ID).Documents), 0)
	told := get(f.DocumentsOfEnrolment(f.ctx, e.ID))(f)
	equal(f, "told", len(told), 1)
	equal(f, "as", string(told[0].Status)+" "+string(told[0].Reason), "removed RemovalVerified")
}

// everyField finds a field that has no column.
func everyField(_ *testing.T, f *fixture) {
	c := f.connector("m1")
	e := f.enrol(f.user("a@x.example"), c, "UDID")
	var doc model.DocumentState
	var command model.Command
	var inventory model.Inventory
	var enrolment model.Enrolment
	var device model.Device
	var job model.Job
	n := 0
	for _, v := range []any{&doc, &command, &inventory, &enrolment, &device, &job} {
		fill(reflect.ValueOf(v).Elem(), &n)
	}
	doc.EnrolmentID, command.EnrolmentID, command.State = e.ID, e.ID, model.CommandSent
	enrolment.ID, enrolment.DeviceID, enrolment.UserID, enrolment.LastSeen = e.ID, e.DeviceID, e.UserID, e.LastSeen
	device.ID, device.LastSeen = e.DeviceID, f.now
	device.CreatedAt = f.snapshot(e.ID).Device.CreatedAt
	job.EnrolmentID, job.State, job.LeasedBy, job.LeaseUntil = e.ID, model.JobOpen, "", time.Time{}
	f.decide(e.ID, func(d *delivery.Decision, _ delivery.Snapshot) {
		d.Documents, d.Commands, d.Inventory, d.Jobs = []model.DocumentState{doc}, []model.Command{command}, &inventory, []model.Job{job}
		d.Enrolment, d.Device = &enrolment, &device
	})
	s := f.snapshot(e.ID)
	enrolment.Version = e.Version + 1
	same(f, "document", s.Documents, []model.DocumentState{doc})
	same(f, "command", s.Commands, []model.Command{command})
	same(f, "inventory", s.Inventory, inventory)
	same(f, "enrolment", s.Enrolment, enrolment)
	same(f, "device", s.Device, device)
	same(f, "job", s.Jobs[job.Key], job)
}

// fill gives every field a value of its own.
func fill(v reflect.Value, n *int) {
	*n++
	switch v.Interface().(type) {
	case time.Time:
		v.Set(reflect.ValueOf(start().Add(time.Duration(*n) * time.Microsecond)))
		return
	case json.RawMessage:
		v.SetBytes([]byte(`{"n":1}`))
		return
	case []byte:
		v.SetBytes([]byte{byte(*n), 0, 0xff})
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString("text " + time.Duration(*n).String())
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), n)
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key, n)
		fill(value, n)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.Struct:
		for i := range v.NumField() {
			fill(v.Field(i), n)
		}
	}
}

func conflicts(_ *testing.T, f *fixture) {
	e := f.enrol(f.user("a@x.example"), f.connector("m1"), "UDID")
	d := delivery.Decision{EnrolmentID: e.ID, Version: e.Version, Documents: []model.DocumentState{document("a", "r1")}, Audit: []model.AuditEntry{f.audit("saved")}}
	f.ok(f.Save(f.ctx, d))
	d.Documents = []model.DocumentState{document("b", "r1")}
	f.is(f.Save(f.ctx, d), model.ErrConflict)
	s := f.snapshot(e.ID)
	equal(f, "documents", len(s.Documents), 1)
	equal(f, "version", s.Enrolment.Version, e.Version+1)
	equal(f, "audited", f.audited("saved"), 1)
}

// whatConflicts: each of these changes the ground of a decision, so an older decision must not overwrite it.
func whatConflicts(_ *testing.T, f *fixture) {
	u, c := f.user("a@x.example"), f.connector("m1")
	e := f.enrol(u, c, "UDID")
	group := "0"
	for name, act := range map[string]func(){
		"mark dirty":   func() { f.ok(f.MarkDirty(f.ctx, e.DeviceID, f.now, f.audit("sync"))) },
		"import":       func() { f.imports(u, "m1") },
		"token update": func() { f.ok(f.TokenUpdate(f.ctx, e.ID, []byte("t"), "m", "t", false, f.now)) },
		"apply user":   func() { group += "0"; f.apply(userObject("a@x.example", group)) },
	} {
		before := f.snapshot(e.ID)
		act()
		stale := before.Enrolment
		stale.Dirty = false
		err := f.Save(f.ctx, delivery.Decision{EnrolmentID: e.ID, Version: before.Enrolment.Version, Enrolment: &stale})
		if err == nil {
			f.Fatalf("%s: a decision from before it was saved", name)
		}
		f.is(err, model.ErrConflict)
		equal(f, name+": dirty", f.snapshot(e.ID).Enrolment.Dirty, true)
	}
}

// saveAtomic: a part that cannot be stored takes everything with it.
func saveAtomic(_ *testing.T, f *fixture) {
	e := f.enrol(f.user("a@x.example"), f.connector("m1"), "UDID")
	bad := model.Job{ID: "j", Key: "k", Kind: "issue", Payload: json.RawMessage(`{}`), EnrolmentID: e.ID}
	clash := bad
	clash.Key = "another key with the same id"
	err := f.Save(f.ctx, delivery.Decision{EnrolmentID: e.ID, Version: e.Version, Documents: []model.DocumentState{document("a", "r1")},
		Jobs: []model.Job{bad, clash}, Audit: []model.AuditEntry{f.audit("saved")}})
	if err == nil {
		f.Fatal("two jobs with one id were stored")
	}
	s := f.snapshot(e.ID)
	equal(f, "documents and jobs", len(s.Documents)+len(s.Jobs), 0)
	equal(f, "version", s.Enrolment.Version, e.Version)
	equal(f, "audited", f.audited("saved"), 0)
}

func certificateChanges(_ *testing.T, f *fixture) {
	c := f.connector("m1")
	e := f.enrol(f.user("a@x.example"), c, "UDID")
	old, oldIntent := f.issue(e, c)
	fresh, freshIntent := f.issue(e, c)
	s := f.snapshot(e.ID)
	equal(f, "issued", len(s.Issued), 2)
	equal(f, "records", len(s.Records), 2)
	equal(f, "dirty", s.Enrolment.Dirty, true)
	later := f.now.Add(time.Hour)
	f.decide(e.ID, func(d *delivery.Decision, _ delivery.Snapshot) {
		d.Certificates = []delivery.CertificateChange{{SHA256: old, Status: model.CertificateSuperseded, At: later, DropKey: true}}
	})
	s = f.snapshot(e.ID)
	if _, ok := s.Records[oldIntent]; ok {
		f.Fatal("the dropped key is still there")
	}
	if _, ok := s.Records[freshIntent]; !ok {
		f.Fatal("the other key is gone too")
	}
	equal(f, "status", f.certificateBySHA(old).Status, model.CertificateSuperseded)
	equal(f, "since", f.certificateBySHA(old).StatusAt, later)
	equal(f, "the other", f.certificateBySHA(fresh).Status, model.CertificateCurrent)
}

func touches(_ *testing.T, f *fixture) {
	e := f.enrol(f.user("a@x.example"), f.connector("m1"), "UDID")
	f.ok(f.Touch(f.ctx, e.ID, f.now.Add(30*time.Second)))
	equal(f, "lazy", f.snapshot(e.ID).Enrolment.LastSeen, f.now)
	later := f.now.Add(2 * time.Minute)
	f.ok(f.Touch(f.ctx, e.ID, later))
	s := f.snapshot(e.ID)
	equal(f, "enrolment", s.Enrolment.LastSeen, later)
	equal(f, "device", s.Device.LastSeen, later)
	equal(f, "version", s.Enrolment.Version, e.Version)
	f.ok(f.Touch(f.ctx, e.ID, f.now))
	equal(f, "never backwards", f.snapshot(e.ID).Enrolment.LastSeen, later)
}
