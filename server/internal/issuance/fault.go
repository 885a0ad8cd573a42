package issuance

import "fmt"

// Code says what is wrong with a request, in Microsoft's words (Intune SCEP validation API: ScepRequestValidation result
// codes, intune-smime.md section 7), so that the partner CA API and our own log say the same.
type Code string

// The codes.
const (
	Success                          Code = "Success"
	CertificateRequestDecodingFailed Code = "CertificateRequestDecodingFailed"
	ChallengePasswordMissing         Code = "ChallengePasswordMissing"
	ChallengeDeserializationError    Code = "ChallengeDeserializationError"
	ChallengeDecryptionError         Code = "ChallengeDecryptionError"
	ChallengeDecodingError           Code = "ChallengeDecodingError"
	ChallengeInvalidTimestamp        Code = "ChallengeInvalidTimestamp"
	ChallengeExpired                 Code = "ChallengeExpired"
	SubjectNameMissing               Code = "SubjectNameMissing"
	SubjectNameMismatch              Code = "SubjectNameMismatch"
	SubjectAltNameMissing            Code = "SubjectAltNameMissing"
	SubjectAltNameMismatch           Code = "SubjectAltNameMismatch"
	KeyUsageMismatch                 Code = "KeyUsageMismatch"
	KeyLengthMismatch                Code = "KeyLengthMismatch"
	EnhancedKeyUsageMissing          Code = "EnhancedKeyUsageMissing"
	EnhancedKeyUsageMismatch         Code = "EnhancedKeyUsageMismatch"
	RegisteredKeyMismatch            Code = "RegisteredKeyMismatch"
	ScepProfileNoLongerTargeted      Code = "ScepProfileNoLongerTargetedToTheClient"
	SignatureValidationFailed        Code = "SignatureValidationFailed"
	BadDeviceIDInChallenge           Code = "BadDeviceIdInChallenge"
	BadUserIDInChallenge             Code = "BadUserIdInChallenge"
	BadRequestIDInChallenge          Code = "BadCertificateRequestIdInChallenge"
)

// Fault is a request that gets no certificate.
type Fault struct {
	Code   Code
	Detail string // a sentence; it never holds the challenge
}

func (f *Fault) Error() string { return fmt.Sprintf("%s: %s", f.Code, f.Detail) }

func fault(code Code, format string, args ...any) error {
	return &Fault{Code: code, Detail: fmt.Sprintf(format, args...)}
}
