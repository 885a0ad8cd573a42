package delivery

import (
	"context"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/platforms/apple"
	"github.com/waxseal/waxseal/platforms/apple/mdm"
	"github.com/waxseal/waxseal/server/internal/model"
	"github.com/waxseal/waxseal/server/internal/reconcile"
)

// Apple speaks delivery in Apple's words: reports in, commands out.
type Apple struct {
	Service *Service
	// Sign makes a signed configuration profile of a plain one.
	Sign func(profile []byte) ([]byte, error)
	// EnrolmentIdentifier is the top-level identifier of the enrolment profile, which a retire removes last.
	EnrolmentIdentifier string
	// Renewal makes the enrolment profile anew, by which a device gets a further identity; nil: identities are not renewed.
	Renewal func(enr model.Enrolment) ([]byte, error)
	// Due tells whether an enrolment's identity ends soon.
	Due func(enr model.Enrolment) bool
}

// codeNotInstalled is MCMDMErrorDomain 12075, "profile not installed"; 4024 is MCInstallationErrorDomain's word for it.
const (
	codeNotInstalled    = 12075
	codeProfileNotFound = 4024
)

// deviceQueries are what DeviceInformation asks.
var deviceQueries = [...]string{"UDID", "DeviceName", "OSVersion", "BuildVersion", "ModelName", "ProductName", "SerialNumber", "EASDeviceIdentifier"}

// renderTries bounds how many documents that cannot be written are passed over in one answer.
const renderTries = 5

// Report answers one message of the command channel: the command to send (empty: none) and how many documents will come
// by themselves. A document that cannot be written is put down as failed, so that it never blocks the others.
func (a *Apple) Report(ctx context.Context, enr model.Enrolment, r *mdm.Report) ([]byte, int, error) {
	report := appleReport(r)
	for range renderTries {
		result, err := a.Service.Step(ctx, enr, report)
		if err != nil {
			return nil, result.Pending, err
		}
		if result.Action == nil {
			body, err := a.renewal(enr, report)
			return body, result.Pending, err
		}
		body, err := a.encode(ctx, enr.ID, *result.Action)
		if err == nil {
			return body, result.Pending, nil
		}
		report = reconcile.Report{Outcome: reconcile.OutcomeFailed, CommandUUID: result.Action.UUID, Error: err.Error(), Reason: platforms.ReasonRenderFailed}
	}
	return nil, 0, fmt.Errorf("enrolment %s: %d documents in a row could not be written", enr.ID, renderTries)
}

// renewEvery is how often a device that has nothing else to do is told to renew its identity: at most once in each such part
// of time in which it speaks.
const renewEvery = 6 * time.Hour

// renewal tells a device for which there is nothing else to do, or nothing any more, to install the enrolment profile again,
// when its identity ends soon: that runs SCEP anew, and the device speaks with the new identity from then on (apple.md section
// 1.10). A device that is woken only for work never comes idle, so that the end of the work is the time, too. A Mac's user has
// no identity of their own.
func (a *Apple) renewal(enr model.Enrolment, r reconcile.Report) ([]byte, error) {
	if a.Renewal == nil || enr.Channel == model.ChannelUser || enr.State != model.EnrolmentActive {
		return nil, nil
	}
	now, uuid := a.Service.c.Clock(), renewalUUID(enr)
	idle := r.Outcome == reconcile.OutcomeIdle && !enr.LastSeen.Truncate(renewEvery).Equal(now.Truncate(renewEvery))
	ready := r.Outcome == reconcile.OutcomeDone && r.CommandUUID != uuid
	if !idle && !ready || !a.Due(enr) {
		return nil, nil
	}
	profile, err := a.Renewal(enr)
	if err != nil || profile == nil {
		return nil, err
	}
	body, err := mdm.InstallProfile(uuid, profile).Encode()
	if err != nil {
		return nil, fmt.Errorf("encode the renewal of enrolment %s: %w", enr.ID, err)
	}
	return body, nil
}

// renewalUUID names the command that renews one identity, so that its answer is known and does not bring it again.
func renewalUUID(enr model.Enrolment) string {
	sum := sha256.Sum256([]byte("renewal " + enr.ID + " " + enr.CertSHA256))
	return strings.ToUpper(fmt.Sprintf("%x-%x-%x-%x-%x", sum[:4], sum[4:6], sum[6:8], sum[8:10], sum[10:16]))
}

func (a *Apple) encode(ctx context.Context, enrolmentID string, act reconcile.Action) ([]byte, error) {
	command, err := a.command(ctx, enrolmentID, act)
	if err != nil {
		return nil, err
	}
	body, err := command.Encode()
	if err != nil {
		return nil, fmt.Errorf("encode command %s: %w", act.Kind, err)
	}
	return body, nil
}

func (a *Apple) command(ctx context.Context, enrolmentID string, act reconcile.Action) (*mdm.Command, error) {
	switch act.Kind {
	case reconcile.ActionInstall:
		profile, err := a.profile(ctx, enrolmentID, act)
		if err != nil {
			return nil, err
		}
		return mdm.InstallProfile(act.UUID, profile), nil
	case reconcile.ActionRemove:
		return mdm.RemoveProfile(act.UUID, act.Identifier), nil
	case reconcile.ActionListDocuments:
		return mdm.ProfileList(act.UUID, true), nil
	case reconcile.ActionListCertificates:
		return mdm.CertificateList(act.UUID, true), nil
	case reconcile.ActionAskFacts:
		return mdm.DeviceInformation(act.UUID, deviceQueries[:]...), nil
	case reconcile.ActionErase:
		return mdm.EraseDevice(act.UUID, ""), nil
	case reconcile.ActionRemoveEnrolment:
		return mdm.RemoveProfile(act.UUID, a.EnrolmentIdentifier), nil
	default:
		return nil, fmt.Errorf("no Apple command for action %s", act.Kind)
	}
}

// profile is the signed outer profile. What holds secrets came from the connector, encrypted to the device.
func (a *Apple) profile(ctx context.Context, enrolmentID string, act reconcile.Action) ([]byte, error) {
	plain := act.Payload
	if !act.Document.HasSecrets() {
		challenges, err := a.Service.challenges(ctx, enrolmentID, act.Document)
		if err != nil {
			return nil, fmt.Errorf("render %s: %w", act.Document.ID, err)
		}
		if plain, err = apple.Render(act.Document, apple.Secrets{Challenges: challenges}, nil); err != nil {
			return nil, fmt.Errorf("render %s: %w", act.Document.ID, err)
		}
	}
	signed, err := a.Sign(plain)
	if err != nil {
		return nil, fmt.Errorf("sign %s: %w", act.Document.ID, err)
	}
	return signed, nil
}

func appleReport(r *mdm.Report) reconcile.Report {
	out := reconcile.Report{CommandUUID: r.CommandUUID}
	switch r.Status {
	case "Idle":
		out.Outcome = reconcile.OutcomeIdle
	case "NotNow":
		out.Outcome = reconcile.OutcomeNotNow
	case "Error", "CommandFormatError":
		out.Outcome = reconcile.OutcomeFailed
		out.Error, out.Absent = appleError(r)
	default:
		out.Outcome = reconcile.OutcomeDone
		out.Documents, out.Certificates, out.Facts = appleProfiles(r), appleCertificates(r), appleFacts(r)
		out.SHA1 = appleThumbprints(r)
	}
	return out
}

func appleError(r *mdm.Report) (sentence string, absent bool) {
	var parts []string
	for _, e := range r.ErrorChain {
		absent = absent || e.ErrorCode == codeNotInstalled || e.ErrorCode == codeProfileNotFound
		words := mdm.ErrorMeaning(e.ErrorDomain, e.ErrorCode)
		if words == "" {
			words = e.LocalizedDescription
		}
		parts = append(parts, fmt.Sprintf("%s (%s %d)", words, e.ErrorDomain, e.ErrorCode))
	}
	if len(parts) == 0 {
		return "the device answered " + r.Status + " without a reason", absent
	}
	return strings.Join(parts, "; "), absent
}

// appleProfiles is never nil: an answer without the list means that the device has none.
func appleProfiles(r *mdm.Report) map[string]string {
	m := map[string]string{}
	for _, p := range r.ProfileList {
		m[p.PayloadIdentifier] = strings.ToUpper(p.PayloadUUID)
	}
	return m
}

func appleCertificates(r *mdm.Report) map[string]bool {
	m := map[string]bool{}
	for _, c := range r.CertificateList {
		sum := sha256.Sum256(c.Data)
		sha := hex.EncodeToString(sum[:])
		m[sha] = m[sha] || c.IsIdentity
	}
	return m
}

// appleThumbprints lists the certificates as partner CAs name them.
func appleThumbprints(r *mdm.Report) map[string]bool {
	m := map[string]bool{}
	for _, c := range r.CertificateList {
		sum := sha1.Sum(c.Data) // a name, no proof
		sha := hex.EncodeToString(sum[:])
		m[sha] = m[sha] || c.IsIdentity
	}
	return m
}

func appleFacts(r *mdm.Report) *reconcile.Facts {
	if r.QueryResponses == nil {
		return nil
	}
	text := func(key string) string {
		s, _ := r.QueryResponses[key].(string)
		return s
	}
	return &reconcile.Facts{Name: text("DeviceName"), Model: text("ProductName"), OSVersion: text("OSVersion"),
		SerialNumber: text("SerialNumber"), IMEI: text("IMEI")}
}
