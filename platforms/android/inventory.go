package android

import "github.com/waxseal/waxseal/platforms/android/companion"

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
		out[prefixIdentity+h.Alias] = h.CertSHA256
		for _, app := range h.Grants {
			out[grantIdentifier(app, h.Alias)] = proofGranted
		}
	}
	for _, c := range inv.MailConfigs {
		out[prefixMail+c.Package] = c.Revision
	}
	return out
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
