package admin

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/waxseal/waxseal/internal/api"
	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/platforms/apple"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
)

// explain puts together what the store knows of a device: what the last plan wants, what the device acknowledged and
// showed, and the reasons in between.
func (s *Service) explain(ctx context.Context, in *deviceInput) (*body[api.Explain], error) {
	d, err := s.device(ctx, in.ID)
	if err != nil {
		return nil, err
	}
	u, err := s.Store.UserByID(ctx, d.UserID)
	if err != nil {
		return nil, err
	}
	enrolments, err := s.Store.EnrolmentsOfDevice(ctx, d.ID)
	if err != nil {
		return nil, err
	}
	out := api.Explain{Device: deviceOf(d, u.UPN), User: userOf(u), Removal: string(d.Removal),
		Enrolments: []api.Enrolment{}, Documents: []api.Document{}}
	for _, e := range enrolments {
		enrolment := enrolmentOf(e)
		enrolment.MustReenroll = s.mustReenroll(e)
		out.Enrolments = append(out.Enrolments, enrolment)
	}
	documents, err := s.documents(ctx, d, enrolments)
	if err != nil {
		return nil, err
	}
	current := currentCredentials(documents, u.Spec.Addresses, s.Clock())
	for _, doc := range documents {
		out.Documents = append(out.Documents, documentOf(doc, current))
	}
	out.Warnings, err = s.warnings(ctx, d, enrolments)
	return &body[api.Explain]{Body: out}, err
}

func enrolmentOf(e model.Enrolment) api.Enrolment {
	out := api.Enrolment{ID: e.ID, Channel: e.Channel, State: string(e.State), CertificateSHA256: e.CertSHA256,
		HasPushToken: len(e.PushToken) > 0, LastSeen: e.LastSeen}
	if c, err := x509.ParseCertificate(e.Certificate); err == nil {
		out.CertificateNotAfter = c.NotAfter
	}
	return out
}

// shown is a document with the channel by which it comes.
type shown struct {
	model.DocumentState
	channel string
}

// documents are those of the enrolments that count, as the state of the device wants them told.
func (s *Service) documents(ctx context.Context, d model.Device, enrolments []model.Enrolment) ([]shown, error) {
	var out []shown
	for _, e := range counting(d, enrolments) {
		documents, err := s.documentsOf(ctx, e)
		if err != nil {
			return nil, err
		}
		for _, doc := range documents {
			if doc, there := told(doc, d); there {
				out = append(out, shown{doc, e.Channel})
			}
		}
	}
	slices.SortStableFunc(out, func(a, b shown) int {
		return cmp.Or(cmp.Compare(rank(a.Document.ID), rank(b.Document.ID)), cmp.Compare(a.Document.ID, b.Document.ID))
	})
	return out, nil
}

// counting are the enrolments that have not ended, or the newest if all have. Of a Mac that leaves the user's channel counts
// with the one that it hangs on, though it ends first.
func counting(d model.Device, newestFirst []model.Enrolment) []model.Enrolment {
	ended := func(e model.Enrolment) bool { return e.State == model.EnrolmentEnded }
	hangs := func(e model.Enrolment) bool { return e.HolderID != "" }
	out := slices.DeleteFunc(slices.Clone(newestFirst), func(e model.Enrolment) bool { return ended(e) || hangs(e) })
	if i := slices.IndexFunc(newestFirst, func(e model.Enrolment) bool { return !hangs(e) }); len(out) == 0 && i >= 0 {
		out = newestFirst[i : i+1 : i+1]
	}
	for _, holder := range slices.Clone(out) {
		i := slices.IndexFunc(newestFirst, func(e model.Enrolment) bool { return e.HolderID == holder.ID })
		if i >= 0 && (!ended(newestFirst[i]) || d.State != model.DeviceEnrolled) {
			out = append(out, newestFirst[i])
		}
	}
	return out
}

// told is a document as it is told of the device: one that left, or that should leave and has been silent for long, has
// nothing any more, and the reason says how that is known. False: it never had it.
func told(doc model.DocumentState, d model.Device) (model.DocumentState, bool) {
	if d.Removal == "" || doc.IsRecord() {
		return doc, true
	}
	return doc.AsRecord(d.Removal)
}

// documentsOf are what the plan of now says where there is one, else what was last decided: a change of a minute ago
// counts though the device has not been here since. What is known to be gone comes from the store in any case.
func (s *Service) documentsOf(ctx context.Context, e model.Enrolment) ([]model.DocumentState, error) {
	stored, err := s.Store.DocumentsOfEnrolment(ctx, e.ID)
	if err != nil || s.Preview == nil || e.State == model.EnrolmentEnded || e.DeviceID == "" {
		return stored, err
	}
	planned, err := s.Preview(ctx, e.ID)
	for _, d := range stored {
		same := func(p model.DocumentState) bool { return p.Document.ID == d.Document.ID }
		if d.IsRecord() && !slices.ContainsFunc(planned, same) {
			planned = append(planned, d)
		}
	}
	return planned, err
}

// rank puts trust first, as it is delivered first.
func rank(documentID string) int {
	if documentID == "trust" {
		return 0
	}
	return 1
}

// currentCredentials are the encryption certificates that are current for one of the user's addresses, and all signing ones.
func currentCredentials(documents []shown, addresses []string, now time.Time) map[string]bool {
	current := map[string]bool{}
	var encryption []profiles.Certificate
	for _, d := range documents {
		for _, c := range d.Document.Credentials {
			if c.Purpose == profiles.PurposeSMIMEEncryption {
				encryption = append(encryption, c)
			} else {
				current[c.SHA256] = true
			}
		}
	}
	for _, a := range addresses {
		if c, ok := profiles.Current(encryption, a, now); ok {
			current[c.SHA256] = true
		}
	}
	return current
}

func documentOf(d shown, current map[string]bool) api.Document {
	out := api.Document{ID: d.Document.ID, Channel: d.channel, Profiles: append([]string{}, d.Document.Profiles...), Status: string(d.Status), Reason: d.Reason,
		Detail: d.Detail, InstalledRevision: d.InstalledRevision, WantedRevision: d.Document.Revision, InstalledAt: d.InstalledAt,
		DependsOn: d.Document.DependsOn, Notes: d.Document.Notes, Attempts: d.Attempts, RetryAt: d.RetryAt}
	if d.Status == model.DocumentRemoving || d.Status == model.DocumentRemoved {
		out.WantedRevision = ""
	}
	gone := d.IsRecord()
	if gone {
		out.InstalledRevision, out.Notes = "", nil
	}
	for _, c := range d.Document.Credentials {
		out.Credentials = append(out.Credentials, api.Credential{SHA256: c.SHA256, Subject: subjectOf(c.DER), Addresses: c.Addresses,
			NotBefore: c.NotBefore, NotAfter: c.NotAfter, Current: current[c.SHA256] && !gone,
			Installed: !gone && slices.Contains(d.InstalledCredentials, c.SHA256)})
	}
	return out
}

func subjectOf(der []byte) string {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return ""
	}
	return profiles.NameString(c.Subject)
}

// mustReenroll: a push certificate that came after the enrolment has another topic than the device was given.
func (s *Service) mustReenroll(e model.Enrolment) bool {
	if e.State == model.EnrolmentEnded {
		return false
	}
	return e.MustReenroll || (s.PushTopic != "" && e.PushTopic != "" && e.PushTopic != s.PushTopic)
}

// warnings tell what keeps the device from being right though no document says so.
func (s *Service) warnings(ctx context.Context, d model.Device, enrolments []model.Enrolment) ([]api.Warning, error) {
	if d.State == model.DeviceLeft {
		return nil, nil
	}
	var out []api.Warning
	if (d.Platform == profiles.IOS || d.Platform == profiles.MacOS) && s.PushTopic == "" {
		out = append(out, noPush())
	}
	if slices.ContainsFunc(enrolments, s.mustReenroll) {
		out = append(out, api.Warning{Reason: platforms.ReasonMustReenroll,
			Detail: "the device enrolled before the push certificate of now was set, and its topic can never change: enrol it again with a new link"})
	}
	if wrong := wrongKind(d); wrong != nil {
		out = append(out, *wrong)
	} else {
		out = append(out, userWarning(d, enrolments)...)
	}
	down, err := s.connectorWarning(ctx)
	return append(out, down...), err
}

// wrongKind says of an Apple device that it came in by a link for the other kind: what is planned for it never works.
func wrongKind(d model.Device) *api.Warning {
	is := apple.PlatformOf(d.Model)
	if is == "" || is == d.Platform || (d.Platform != profiles.IOS && d.Platform != profiles.MacOS) {
		return nil
	}
	return &api.Warning{Reason: platforms.ReasonMustReenroll, Detail: fmt.Sprintf(
		"it is a %s (%s) that was enrolled by a link for a %s: retire it, and enrol it by waxctl enroll link --platform %s", apple.DeviceName(is), d.Model, apple.DeviceName(d.Platform), is)}
}

// userWarning says of a Mac that something waits for its user, who has a channel of their own: what should come does until
// they spoke for the first time, and what should go at a retire does until they speak again.
func userWarning(d model.Device, enrolments []model.Enrolment) []api.Warning {
	channel := func(name string) *model.Enrolment {
		for i, e := range enrolments {
			if e.Platform == profiles.MacOS && e.Channel == name && e.State == model.EnrolmentActive {
				return &enrolments[i]
			}
		}
		return nil
	}
	user := channel(model.ChannelUser)
	switch {
	case channel(model.ChannelDevice) == nil:
		return nil
	case user == nil && d.State == model.DeviceEnrolled:
		return []api.Warning{{Reason: platforms.ReasonUserNotLoggedOn,
			Detail: "the user has not been logged on to the Mac since it was enrolled: keys, mail account and all else of the user come at the logon"}}
	case user != nil && d.State == model.DeviceRetiring && user.LastSeen.Before(d.StateAt):
		return []api.Warning{{Reason: platforms.ReasonUserNotLoggedOn,
			Detail: "what the user has on the Mac is removed at the next logon; after a week without one the enrolment is removed all the same"}}
	}
	return nil
}

func (s *Service) connectorWarning(ctx context.Context) ([]api.Warning, error) {
	connectors, err := s.Connectors.Connectors(ctx)
	if err != nil {
		return nil, err
	}
	var seen time.Time
	for _, c := range connectors {
		if c.State == model.ConnectorTrusted && c.LastSeen.After(seen) {
			seen = c.LastSeen
		}
	}
	if !seen.IsZero() && s.Clock().Sub(seen) <= s.ConnectorSilence {
		return nil, nil
	}
	detail := "no connector has ever asked for work: start one with waxseal-connector run"
	if !seen.IsZero() {
		detail = "no connector has asked for work since " + seen.UTC().Format(time.RFC3339) + ": start it with waxseal-connector run"
	}
	return []api.Warning{{Reason: platforms.ReasonConnectorDown, Detail: detail}}, nil
}
