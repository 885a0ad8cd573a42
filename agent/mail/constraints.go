package mail

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strings"

	"github.com/waxseal/waxseal/agent/apple"
)

// constrained checks the mail addresses of a chain's leaf against the name constraints of every CA above it (RFC 5280
// section 4.2.1.10). The standard library looks at rfc822Names only; emailAddress in the subject counts as an address
// of the certificate here, so that it has to be looked at, too.
func constrained(chain []*x509.Certificate) error {
	for _, address := range apple.Addresses(chain[0]) {
		for _, ca := range chain[1:] {
			within := func(constraint string) bool { return inSubtree(address, constraint) }
			permitted := ca.PermittedEmailAddresses
			if len(permitted) > 0 && !slices.ContainsFunc(permitted, within) {
				return fmt.Errorf("%s may not certify %s, only addresses within %s", ca.Subject, address, strings.Join(permitted, ", "))
			}
			if slices.ContainsFunc(ca.ExcludedEmailAddresses, within) {
				return fmt.Errorf("%s may not certify %s", ca.Subject, address)
			}
		}
	}
	return nil
}

// inSubtree reports whether a constraint covers an address. It is a mailbox, or a host, or with a dot in front all hosts
// of a domain; empty it covers everything. Case does not matter, as it does not where senders are compared.
func inSubtree(address, constraint string) bool {
	host := address[strings.LastIndex(address, "@")+1:]
	switch {
	case constraint == "":
		return true
	case strings.Contains(constraint, "@"):
		return strings.EqualFold(address, constraint)
	case strings.HasPrefix(constraint, "."):
		return strings.HasSuffix(strings.ToLower(host), strings.ToLower(constraint))
	}
	return strings.EqualFold(host, constraint)
}
