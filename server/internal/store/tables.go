package store

import (
	"strings"
	"time"

	"github.com/waxseal/waxseal/internal/escrow"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
)

func users() table[model.User] {
	return table[model.User]{"users", func(u *model.User) row {
		return row{{"id", &u.ID}, {"upn", &u.UPN}, {"spec", &u.Spec}, {"created_at", &u.CreatedAt}}
	}}
}

// upnKey makes UPNs unique whatever their case, as profiles.Check does.
func upnKey(upn string) string { return strings.ToLower(upn) }

func devices() table[model.Device] {
	return table[model.Device]{"devices", func(d *model.Device) row {
		return row{{"id", &d.ID}, {"user_id", &d.UserID}, {"platform", &d.Platform}, {"external_id", &d.ExternalID},
			{"name", &d.Name}, {"model", &d.Model}, {"os_version", &d.OSVersion}, {"serial_number", &d.SerialNumber},
			{"imei", &d.IMEI}, {"state", &d.State}, {"removal", &d.Removal}, {"created_at", &d.CreatedAt},
			{"state_at", &d.StateAt}, {"last_seen", &d.LastSeen}}
	}}
}

// enrolments has columns more, which belong to push: pushed_at, pushed_version, push_failed_at and push_failure.
func enrolments() table[model.Enrolment] {
	return table[model.Enrolment]{"enrolments", func(e *model.Enrolment) row {
		return row{{"id", &e.ID}, {"device_id", &e.DeviceID}, {"user_id", &e.UserID}, {"platform", &e.Platform},
			{"channel", &e.Channel}, {"external_id", &e.ExternalID}, {"state", &e.State}, {"certificate", &e.Certificate},
			{"cert_sha256", &e.CertSHA256}, {"holder_id", &e.HolderID}, {"cert_store", &e.CertStore}, {"credential_hash", &e.CredentialHash}, {"next_certificate", &e.NextCertificate}, {"next_cert_sha256", &e.NextCertSHA256}, {"push_token", &e.PushToken}, {"push_magic", &e.PushMagic},
			{"push_topic", &e.PushTopic}, {"must_reenroll", &e.MustReenroll}, {"version", &e.Version},
			{"settled_generation", &e.SettledGeneration}, {"dirty", &e.Dirty}, {"inventory_at", &e.InventoryAt},
			{"last_seen", &e.LastSeen}}
	}}
}

func sessions() table[model.Session] {
	return table[model.Session]{"sessions", func(s *model.Session) row {
		return row{{"enrolment_id", &s.EnrolmentID}, {"session_id", &s.ID}, {"heard", &s.Heard}, {"login", &s.Login},
			{"state", &s.State}, {"version", &s.Version}, {"updated_at", &s.UpdatedAt}}
	}}
}

func documents() table[model.DocumentState] {
	return table[model.DocumentState]{"documents", func(d *model.DocumentState) row {
		return row{{"enrolment_id", &d.EnrolmentID}, {"document_id", &d.Document.ID}, {"revision", &d.Document.Revision},
			{"document", &d.Document}, {"status", &d.Status}, {"reason", &d.Reason}, {"detail", &d.Detail},
			{"installed_revision", &d.InstalledRevision}, {"installed_proof", &d.InstalledProof},
			{"installed_identifier", &d.InstalledIdentifier}, {"leftovers", &d.Leftovers},
			{"installed_credentials", &d.InstalledCredentials}, {"installed_at", &d.InstalledAt}, {"payload", &d.Payload},
			{"payload_revision", &d.PayloadRevision}, {"payload_recipient", &d.PayloadRecipient},
			{"sent_revision", &d.SentRevision}, {"sent_proof", &d.SentProof}, {"sent_identifier", &d.SentIdentifier}, {"sent_credentials", &d.SentCredentials},
			{"reported_seq", &d.ReportedSeq}, {"renders", &d.Renders}, {"redeliver", &d.Redeliver}, {"losses", &d.Losses}, {"attempts", &d.Attempts}, {"retry_at", &d.RetryAt}, {"updated_at", &d.UpdatedAt}}
	}}
}

func commands() table[model.Command] {
	return table[model.Command]{"commands", func(c *model.Command) row {
		return row{{"uuid", &c.UUID}, {"enrolment_id", &c.EnrolmentID}, {"request_type", &c.RequestType},
			{"document_id", &c.DocumentID}, {"revision", &c.Revision}, {"state", &c.State}, {"error", &c.Error},
			{"created_at", &c.CreatedAt}, {"updated_at", &c.UpdatedAt}}
	}}
}

// inventory is a model.Inventory with its key.
type inventory struct {
	EnrolmentID string
	model.Inventory
}

func inventories() table[inventory] {
	return table[inventory]{"inventories", func(i *inventory) row {
		return row{{"enrolment_id", &i.EnrolmentID}, {"facts_at", &i.FactsAt}, {"profiles_at", &i.ProfilesAt}, {"profiles", &i.Profiles},
			{"certificates_at", &i.CertificatesAt}, {"certificates", &i.Certificates}}
	}}
}

func certificates() table[model.Certificate] {
	return table[model.Certificate]{"certificates", func(c *model.Certificate) row {
		p := &c.Certificate
		return row{{"sha256", &p.SHA256}, {"sha1", &p.SHA1}, {"der", &p.DER}, {"addresses", &p.Addresses},
			{"not_before", &p.NotBefore}, {"not_after", &p.NotAfter}, {"purpose", &p.Purpose}, {"record_id", &p.RecordID},
			{"kind", &c.Kind}, {"user_id", &c.UserID}, {"device_id", &c.DeviceID}, {"enrolment_id", &c.EnrolmentID},
			{"profile", &c.Profile}, {"ca", &c.CA}, {"subject", &c.Subject}, {"issuer", &c.Issuer}, {"serial", &c.Serial},
			{"status", &c.Status}, {"status_at", &c.StatusAt}, {"revoke_on", &c.RevokeOn}, {"created_at", &c.CreatedAt}}
	}}
}

// sealed is a sealed record: an imported one belongs to a user, an issued one to an enrolment too.
type sealed struct {
	Record      escrow.Record
	Kind        model.CertificateKind
	UserID      string
	EnrolmentID string
	Purpose     profiles.Purpose
}

func records() table[sealed] {
	return table[sealed]{"records", func(s *sealed) row {
		return row{{"id", &s.Record.ID}, {"cert_sha256", &s.Record.CertSHA256}, {"record", &s.Record}, {"kind", &s.Kind},
			{"user_id", &s.UserID}, {"enrolment_id", &s.EnrolmentID}, {"purpose", &s.Purpose}}
	}}
}

func jobs() table[model.Job] {
	return table[model.Job]{"jobs", func(j *model.Job) row {
		return row{{"id", &j.ID}, {"job_key", &j.Key}, {"kind", &j.Kind}, {"payload", &j.Payload}, {"user_id", &j.UserID},
			{"enrolment_id", &j.EnrolmentID}, {"document_id", &j.DocumentID}, {"revision", &j.Revision},
			{"recipient", &j.Recipient}, {"needs", &j.Needs}, {"state", &j.State}, {"attempt", &j.Attempt},
			{"leased_by", &j.LeasedBy}, {"lease_until", &j.LeaseUntil}, {"run_at", &j.RunAt}, {"error", &j.Error},
			{"reason", &j.Reason}, {"created_at", &j.CreatedAt}, {"updated_at", &j.UpdatedAt}}
	}}
}

func connectors() table[model.Connector] {
	return table[model.Connector]{"connectors", func(c *model.Connector) row {
		return row{{"id", &c.ID}, {"name", &c.Name}, {"member_id", &c.Member.ID}, {"member", &c.Member},
			{"credential_hash", &c.CredentialHash}, {"state", &c.State}, {"sealed_cas", &c.SealedCAs},
			{"created_at", &c.CreatedAt}, {"last_seen", &c.LastSeen}}
	}}
}

// token is a one-time registration token of a connector.
type token struct {
	Hash      string
	ExpiresAt time.Time
	SpentAt   time.Time
	SpentBy   string // member id
}

func tokens() table[token] {
	return table[token]{"connector_tokens", func(t *token) row {
		return row{{"token_hash", &t.Hash}, {"expires_at", &t.ExpiresAt}, {"spent_at", &t.SpentAt}, {"spent_by", &t.SpentBy}}
	}}
}

// links has one column more, spent_by: the hash of the challenge that used it up.
func links() table[model.Link] {
	return table[model.Link]{"links", func(l *model.Link) row {
		return row{{"id", &l.ID}, {"token_hash", &l.TokenHash}, {"user_id", &l.UserID}, {"platform", &l.Platform},
			{"created_at", &l.CreatedAt}, {"expires_at", &l.ExpiresAt}, {"spent_at", &l.SpentAt}}
	}}
}

func challenges() table[model.Challenge] {
	return table[model.Challenge]{"challenges", func(c *model.Challenge) row {
		return row{{"hash", &c.Hash}, {"link_id", &c.LinkID}, {"user_id", &c.UserID}, {"platform", &c.Platform},
			{"enrolment_id", &c.EnrolmentID}, {"created_at", &c.CreatedAt}, {"expires_at", &c.ExpiresAt},
			{"key_sha256", &c.KeySHA256}, {"job_id", &c.JobID}, {"certificate", &c.Certificate}, {"chain", &c.Chain}}
	}}
}

func scepRequests() table[model.SCEPRequest] {
	return table[model.SCEPRequest]{"scep_requests", func(r *model.SCEPRequest) row {
		return row{{"hash", &r.Hash}, {"enrolment_id", &r.EnrolmentID}, {"request_id", &r.RequestID}, {"key_sha256", &r.KeySHA256},
			{"signer_sha256", &r.SignerSHA256}, {"transaction_id", &r.TransactionID}, {"job_id", &r.JobID}, {"created_at", &r.CreatedAt}, {"certificate", &r.Certificate}, {"chain", &r.Chain}}
	}}
}

func notices() table[model.Notice] {
	return table[model.Notice]{"notices", func(n *model.Notice) row {
		return row{{"key", &n.Key}, {"payload", &n.Payload}, {"at", &n.At}, {"taken_at", &n.TakenAt}}
	}}
}

func auditEntries() table[model.AuditEntry] {
	return table[model.AuditEntry]{"audit", func(a *model.AuditEntry) row {
		return row{{"id", &a.ID}, {"at", &a.At}, {"actor", &a.Actor}, {"action", &a.Action}, {"object", &a.Object},
			{"outcome", &a.Outcome}, {"detail", &a.Detail}}
	}}
}
