package reconcile

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/waxseal/waxseal/internal/link"
	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/profiles"
	"github.com/waxseal/waxseal/server/internal/model"
)

// Certificates of partner CAs: the device asks the partner, and what we know of the certificate is what the partner told
// of it. It is verified by the SHA-1 of what the device shows.

func (w *work) ca(name string) (link.CA, bool) {
	for _, ca := range w.in.Snapshot.CAs {
		if ca.Name == name {
			return ca, true
		}
	}
	return link.CA{}, false
}

func (w *work) isPartner(name string) bool {
	ca, ok := w.ca(name)
	return ok && ca.Kind == link.KindPartner
}

// asksAt is where devices ask a CA, and what they give GetCACert as its message: the name of the CA here, which means
// nothing to a partner.
func (w *work) asksAt(name string) (url, message string) {
	if ca, ok := w.ca(name); ok && ca.URL != "" {
		return ca.URL, ""
	}
	return w.in.Settings.SCEPURL + "/" + name, name
}

// shownCertificates is the list that the device gave, with the names of the certificates in it that are known by their
// SHA-1 only.
func (w *work) shownCertificates(r Report) map[string]bool {
	list := maps.Clone(r.Certificates)
	for _, c := range w.in.Snapshot.Issued {
		if hasKey, there := r.SHA1[c.SHA1]; there && c.Noted() && list != nil {
			list[c.SHA256] = hasKey
		}
	}
	return list
}

// makesNoKeys names a PKCSCertificate profile of the document whose CA is a partner: those certify devices' own keys.
func (w *work) makesNoKeys(d *model.DocumentState) string {
	for _, o := range w.applying {
		p, ok := o.Spec.(*profiles.PKCSCertificate)
		if ok && slices.Contains(d.Document.Profiles, o.Name) && w.isPartner(p.CertificateAuthority) {
			return fmt.Sprintf("PKCSCertificate %s: the partner CA %s certifies keys that devices make; use a SCEPCertificate", o.Name, p.CertificateAuthority)
		}
	}
	return ""
}

// whyRefused: a device only says that it got no certificate; the CA has said why, by its connector or as a partner.
func (w *work) whyRefused(d *model.DocumentState) {
	for _, name := range d.Document.Challenges {
		j, found := w.lastRequest(name)
		switch {
		case found && j.State == model.JobFailed:
			d.Reason, d.Detail = platforms.ReasonIssueRefused, j.Error
		case found && j.Error != "":
			d.Detail = Said(d.Detail) + askedAgain + j.Error
		}
	}
}

const askedAgain = "; the CA is asked again: "

// Said is what the device itself has said, of a document's detail.
func Said(detail string) string {
	device, _, _ := strings.Cut(detail, askedAgain)
	return device
}

// whyPending: a device that asks for its certificate only knows that there is none yet; the connector knows why.
func (w *work) whyPending(d *model.DocumentState) {
	if d.Reason != platforms.ReasonIssuePending || d.Document.Reason != "" {
		return
	}
	for _, name := range d.Document.Challenges {
		d.Detail = Said(d.Detail)
		if j, found := w.lastRequest(name); found && j.Error != "" {
			d.Detail += askedAgain + j.Error
		}
	}
}

// lastRequest is the last request for the certificate that a profile wants now, if it has got none.
func (w *work) lastRequest(profile string) (last model.Job, found bool) {
	wanted := w.requestID(profile)
	for _, j := range w.in.Snapshot.Jobs {
		if j.Kind != link.JobCertify || !j.CreatedAt.After(last.CreatedAt) {
			continue
		}
		var order link.CertifyJob
		if err := json.Unmarshal(j.Payload, &order); err == nil && order.Profile == profile && order.RequestID == wanted {
			last, found = j, true
		}
	}
	issuedSince := slices.ContainsFunc(w.in.Snapshot.Issued, func(c model.Certificate) bool {
		return c.Profile == profile && c.CreatedAt.After(last.UpdatedAt)
	})
	return last, found && !issuedSince
}

// requestID is which certificate a profile wants now; empty where it can want none.
func (w *work) requestID(profile string) string {
	for _, o := range w.applying {
		if p, ok := o.Spec.(*profiles.SCEPCertificate); ok && o.Name == profile {
			order, _ := w.scepOrder(o.Name, p)
			return order.RequestID
		}
	}
	return ""
}
