package link

import "strings"

// KindPartner is the kind of a CA that no connector asks: devices ask it themselves, and it asks the server whether a
// request is right (docs/protocols/partner-ca.md).
const KindPartner = "partner"

const partnerMember = KindPartner + ":"

// PartnerMember stands for a partner CA where the ids of connectors' keys stand, in the members of a CA and in what a job
// needs: no connector has such an id, so that the job is left to the partner.
func PartnerMember(name string) string { return partnerMember + name }

// PartnerOf is the partner CA that is needed; empty: it is work for connectors.
func PartnerOf(needs []string) string {
	if len(needs) != 1 {
		return ""
	}
	name, ok := strings.CutPrefix(needs[0], partnerMember)
	if !ok {
		return ""
	}
	return name
}
