package admin

import (
	"cmp"
	"context"
	"crypto/x509"
	"slices"
	"time"

	"github.com/waxseal/waxseal/internal/api"
	"github.com/waxseal/waxseal/platforms"
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
		shown := enrolmentOf(e)
		shown.MustReenroll = s.mustReenroll(e)
		out.Enrolments = append(out.Enrolments, shown)
	}
	documents, err := s.documents(ctx, enrolments)
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

// documents are those of the enrolments that count: the ones that have not ended, or the newest if all have.
func (s *Service) documents(ctx context.Context, enrolments []model.Enrolment) ([]model.DocumentState, error) {
	live := slices.DeleteFunc(slices.Clone(enrolments), func(e model.Enrolment) bool { return e.State == model.EnrolmentEnded })
	if len(live) == 0 && len(enrolments) > 0 {
		live = enrolments[:1]
	}
	var out []model.DocumentState
	for _, e := range live {
		documents, err := s.documentsOf(ctx, e)
		if err != nil {
			return nil, err
		}
		out = append(out, documents...)
	}
	slices.SortStableFunc(out, func(a, b model.DocumentState) int {
		return cmp.Or(cmp.Compare(rank(a.Document.ID), rank(b.Document.ID)), cmp.Compare(a.Document.ID, b.Document.ID))
	})
	return out, nil
}

// documentsOf are what the plan of now says where there is one, else what was last decided: a change of a minute ago
// counts though the device has not been here since.
func (s *Service) documentsOf(ctx context.Context, e model.Enrolment) ([]model.DocumentState, error) {
	if s.Preview == nil || e.State == model.EnrolmentEnded || e.DeviceID == "" {
		return s.Store.DocumentsOfEnrolment(ctx, e.ID)
	}
	return s.Preview(ctx, e.ID)
}

// rank puts trust first, as it is delivered first.
func rank(documentID string) int {
	if documentID == "trust" {
		return 0
	}
	return 1
}

// currentCredentials are the encryption certificates that are current for one of the user's addresses, and all signing ones.
func currentCredentials(documents []model.DocumentState, addresses []string, now time.Time) map[string]bool {
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

func documentOf(d model.DocumentState, current map[string]bool) api.Document {
	out := api.Document{ID: d.Document.ID, Profiles: append([]string{}, d.Document.Profiles...), Status: string(d.Status), Reason: d.Reason,
		Detail: d.Detail, InstalledRevision: d.InstalledRevision, WantedRevision: d.Document.Revision, InstalledAt: d.InstalledAt,
		DependsOn: d.Document.DependsOn, Notes: d.Document.Notes, Attempts: d.Attempts, RetryAt: d.RetryAt}
	if d.Status == model.DocumentRemoving || d.Status == model.DocumentRemoved {
		out.WantedRevision = ""
	}
	for _, c := range d.Document.Credentials {
		out.Credentials = append(out.Credentials, api.Credential{SHA256: c.SHA256, Subject: subjectOf(c.DER), Addresses: c.Addresses,
			NotBefore: c.NotBefore, NotAfter: c.NotAfter, Current: current[c.SHA256],
			Installed: slices.Contains(d.InstalledCredentials, c.SHA256)})
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
	apple := d.Platform == profiles.IOS || d.Platform == profiles.MacOS
	if apple && s.PushTopic == "" {
		out = append(out, noPush())
	}
	if slices.ContainsFunc(enrolments, s.mustReenroll) {
		out = append(out, api.Warning{Reason: platforms.ReasonMustReenroll,
			Detail: "the device enrolled before the push certificate of now was set, and its topic can never change: enrol it again with a new link"})
	}
	out = append(out, userWarning(d, enrolments)...)
	down, err := s.connectorWarning(ctx)
	return append(out, down...), err
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
