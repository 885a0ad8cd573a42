package scepmsg

import "crypto/x509"

// ChallengePassword is the challenge inside a certificate request, a secret; empty when there is none (PKCS #9 section 5.4.1).
func ChallengePassword(csr *x509.CertificateRequest) (string, error) {
	return challengePassword(csr.RawTBSCertificateRequest)
}
