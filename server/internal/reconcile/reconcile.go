// Package reconcile decides, as a pure function, what one enrolment needs next: gather one input, run an ordered list of
// small checks, first reason wins. It speaks no platform's language: a planner gives the documents, an adapter turns the
// action into a command.
//
//	report ─→ learn ─→ verify (inventory) ─→ plan ─→ match (wanted against there) ─→ judge (status, reason) ─→ choose one action
package reconcile

import (
	"maps"
	"reflect"
	"time"

	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
)

// Outcome is what the device said of the last command.
type Outcome string

// The outcomes.
const (
	OutcomeIdle   Outcome = "idle" // nothing to report
	OutcomeDone   Outcome = "done"
	OutcomeFailed Outcome = "failed"
	OutcomeNotNow Outcome = "notNow"
)

// Report is one message of a device, in no platform's words.
type Report struct {
	Outcome     Outcome
	CommandUUID string
	// Seq numbers the reports about one document, where the device does so.
	Seq   int64
	Error string // a sentence, for OutcomeFailed
	// Reason is why it failed; empty means that the device refused.
	Reason platforms.Reason
	// UserAbsent: the enrolled user is not logged on, so what belongs to the user can be neither changed nor seen.
	UserAbsent bool
	// Absent: the command failed because what it should remove is not there.
	Absent bool
	// Documents is the inventory by identifier (answer to ActionListDocuments); nil otherwise. A device may also tell all its
	// lists unasked: then the outcome is idle, and Documents, Certificates and Facts are all set.
	Documents map[string]string
	// Certificates is the inventory by SHA-256, true with a private key (answer to ActionListCertificates); nil otherwise.
	Certificates map[string]bool
	// SHA1 lists the same certificates by their SHA-1 (lower-case hex), for those that are known by it only. An adapter that
	// finds certificates by SHA-1 itself leaves it nil.
	SHA1 map[string]bool
	// Facts update the device (answer to ActionAskFacts); nil otherwise.
	Facts *Facts
}

// Facts are what a device says of itself.
type Facts struct {
	Name, Model, OSVersion, SerialNumber, IMEI string
}

// ActionKind is what to do next.
type ActionKind string

// The kinds of actions; they are the RequestType of stored commands.
const (
	ActionInstall          ActionKind = "install"
	ActionRemove           ActionKind = "remove"
	ActionListDocuments    ActionKind = "listDocuments"
	ActionListCertificates ActionKind = "listCertificates"
	ActionAskFacts         ActionKind = "askFacts"
	ActionErase            ActionKind = "erase"
	ActionRemoveEnrolment  ActionKind = "removeEnrolment"
)

// Action is one command to send. Document and Payload are set for install, Identifier for remove.
type Action struct {
	Kind       ActionKind
	UUID       string
	Document   platforms.Document
	Payload    []byte
	Identifier string
}

// Settings are the operator's choices that matter here.
type Settings struct {
	Organization string
	Namespace    string
	// SCEPURL is where devices ask for certificates; the name of the CA follows after a slash.
	SCEPURL string
	// InventoryEvery is how often a settled device is asked what it has; 24 h.
	InventoryEvery time.Duration
	// ConnectorSilence is after how long without a connector the reason becomes ConnectorDown; 2 min.
	ConnectorSilence time.Duration
	// MaxAttempts bounds how often a refused document is sent again; 8.
	MaxAttempts int
}

// Input is all that Decide looks at.
type Input struct {
	Snapshot Snapshot
	Report   Report
	Settings Settings
	Now      time.Time
	// Plan makes the documents of the device's platform.
	Plan func(platforms.Input) []platforms.Document
	// CanDecrypt tells whether the device certificate can be a recipient.
	CanDecrypt bool
	// NewUUID makes a command's UUID.
	NewUUID func() string
	// Together: the platform takes everything at once, as a desired state, and not one command after the other.
	Together bool
}

// Result is the decision to save, the action to send after that, and how many documents will come by themselves. Actions
// are all of them, where the platform takes them together; Action is the first.
type Result struct {
	Decision Decision
	Action   *Action
	Actions  []Action
	Pending  int
}

// Decide is a pure function of its input: it changes none of it.
func Decide(in Input) Result {
	w := gather(in)
	w.learn()
	w.verify()
	w.plan()
	w.match()
	w.requestCertificates()
	w.adopt()
	w.judge()
	w.retireCertificates()
	actions := w.chooseAll()
	result := Result{Actions: actions, Pending: w.pending()}
	if len(actions) > 0 {
		result.Action = &actions[0]
	}
	w.settle(result.Action)
	result.Decision = w.decision()
	return result
}

// work is the state of one decision.
type work struct {
	in        Input
	now       time.Time
	device    model.Device
	enrolment model.Enrolment
	inventory model.Inventory
	// docs by id; order is the plan's order followed by the ones that are no longer wanted.
	docs     map[string]*model.DocumentState
	order    []string
	wanted   map[string]bool
	commands []*model.Command
	applying []profiles.Object
	// issueKeys are the keys of the issue jobs that the profiles want now, by profile name.
	issueKeys map[string]string
	lost      map[string]string // SHA-256 of certificates for the device's own key that it has no more, by profile
	chosen    map[string]bool   // what was said in this decision
	leftBy    profiles.Event    // set once the device has obeyed and left
	staysFor  time.Duration     // set when it refused to leave just now
	out       Decision
}

func gather(in Input) *work {
	s := in.Snapshot
	w := &work{in: in, now: in.Now, device: s.Device, enrolment: s.Enrolment, inventory: s.Inventory,
		docs: map[string]*model.DocumentState{}, wanted: map[string]bool{}, issueKeys: map[string]string{}, lost: map[string]string{}, chosen: map[string]bool{}}
	for _, d := range s.Documents {
		w.docs[d.Document.ID] = new(copyDocument(d))
	}
	for _, c := range s.Commands {
		w.commands = append(w.commands, new(c))
	}
	w.out = Decision{EnrolmentID: s.Enrolment.ID, Version: s.Enrolment.Version}
	return w
}

func copyDocument(d model.DocumentState) model.DocumentState {
	d.Redeliver, d.Losses = copyCounts(d.Redeliver), copyCounts(d.Losses)
	return d
}

func copyCounts(from map[string]int) map[string]int {
	m := make(map[string]int, len(from))
	maps.Copy(m, from)
	return m
}

// decision holds what differs from the snapshot, so that a poll that changes nothing writes nothing.
func (w *work) decision() Decision {
	s := w.in.Snapshot
	before := map[string]model.DocumentState{}
	for _, d := range s.Documents {
		before[d.Document.ID] = copyDocument(d)
	}
	for _, id := range w.order {
		d, ok := w.docs[id]
		if !ok {
			continue
		}
		d.EnrolmentID = w.enrolment.ID
		if old, had := before[id]; !had || !reflect.DeepEqual(old, *d) {
			d.UpdatedAt = w.now
			w.out.Documents = append(w.out.Documents, *d)
		}
	}
	if !reflect.DeepEqual(s.Inventory, w.inventory) {
		w.out.Inventory = &w.inventory
	}
	if s.Device != w.device {
		w.out.Device = &w.device
	}
	if !reflect.DeepEqual(s.Enrolment, w.enrolment) {
		w.out.Enrolment = &w.enrolment
	}
	return w.out
}

func (w *work) audit(action, object, outcome string, detail map[string]string) {
	w.out.Audit = append(w.out.Audit, model.AuditEntry{At: w.now, Actor: "device " + w.device.ID, Action: action,
		Object: object, Outcome: outcome, Detail: detail})
}

// leaving tells whether the device is on its way out, so that nothing is wanted on it any more.
func (w *work) leaving() bool {
	return w.device.State == model.DeviceRetiring || w.device.State == model.DeviceWiping
}

// Empty tells whether the decision changes nothing.
func (d Decision) Empty() bool {
	return len(d.Documents)+len(d.Forget)+len(d.Jobs)+len(d.Obsolete)+len(d.Commands)+len(d.Certificates)+len(d.Audit) == 0 &&
		d.Inventory == nil && d.Device == nil && d.Enrolment == nil
}
