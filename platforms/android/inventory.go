package android

import (
	"strings"

	"github.com/waxseal/waxseal/platforms/android/companion"
)

// Documents reads an inventory: it maps Document.Identifier to Document.Proof as the device shows it.
func Documents(inv companion.Inventory) map[string]string {
	out := map[string]string{}
	for _, sum := range inv.CAs {
		out[prefixCA+sum] = sum
	}
	for _, h := range inv.Identities {
		if !h.Present {
			continue
		}
		out[prefixIdentity+h.Alias] = proofOf(h)
		for _, app := range h.Grants {
			out[grantIdentifier(app, h.Alias)] = proofGranted
		}
	}
	for _, c := range inv.MailConfigs {
		out[prefixMail+c.Package] = c.Revision
	}
	return out
}

// proofOf: the alias of a key that was delivered holds the start of its certificate's SHA-256, which is then the proof. A key
// that the device made proves itself by its alias, since its document is older than its certificate; that there is the right
// one, Certificates tells.
func proofOf(h companion.Held) string {
	if h.CertSHA256 != "" && strings.HasSuffix(h.Alias, "-"+h.CertSHA256[:min(aliasLength, len(h.CertSHA256))]) {
		return h.CertSHA256
	}
	return h.Alias
}

// Certificates tells which certificates the device shows, by SHA-256, true with a private key.
func Certificates(inv companion.Inventory) map[string]bool {
	out := map[string]bool{}
	for _, sum := range inv.CAs {
		out[sum] = false
	}
	for _, h := range inv.Identities {
		if h.Present {
			out[h.CertSHA256] = true
		}
	}
	return out
}
