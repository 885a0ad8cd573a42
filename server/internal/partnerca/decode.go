package partnerca

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"github.com/waxseal/waxseal/internal/scepmsg"
	"github.com/waxseal/waxseal/server/internal/issuance"
)

// Bounds of what a partner says, in runes.
const (
	maxTransaction = 255
	maxSerial      = 128
	maxName        = 1024
	maxCaller      = 256
	maxDescription = 255 // IntuneScepValidator: errorDescription
)

// malformed is a body that breaks the API's form; it gets HTTP 400. What is wrong with a request of a device gets a code.
type malformed struct{ reason string }

func (m *malformed) Error() string { return m.reason }

func badly(format string, args ...any) error { return &malformed{fmt.Sprintf(format, args...)} }

// asked is what all calls about a request have in common.
type asked struct {
	TransactionID      string `json:"transactionId"`
	CertificateRequest string `json:"certificateRequest"`
	CallerInfo         string `json:"callerInfo"`
}

type validation struct {
	Request *asked `json:"request"`
}

type success struct {
	Notification *struct {
		asked
		Thumbprint           string `json:"certificateThumbprint"`
		Serial               string `json:"certificateSerialNumber"`
		Expires              string `json:"certificateExpirationDateUtc"`
		Issuer               string `json:"issuingCertificateAuthority"`
		CAConfiguration      string `json:"caConfiguration"`
		CertificateAuthority string `json:"certificateAuthority"`
	} `json:"notification"`
}

type failure struct {
	Notification *struct {
		asked
		HResult     json.Number `json:"hResult"`
		Description string      `json:"errorDescription"`
	} `json:"notification"`
}

// decode reads one JSON value. Fields that are not known are passed over: libraries grow.
func decode[T any](body []byte) (T, error) {
	var v T
	d := json.NewDecoder(bytes.NewReader(body))
	if err := d.Decode(&v); err != nil {
		return v, badly("the body is not the JSON of this call: %v", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return v, badly("the body has something after its JSON")
	}
	return v, nil
}

// check bounds the common part.
func (a *asked) check(in string) error {
	switch {
	case a.TransactionID == "" || len(a.TransactionID) > maxTransaction || !printable(a.TransactionID):
		return badly("%s.transactionId: it has 1 to %d printable characters", in, maxTransaction)
	case a.CertificateRequest == "":
		return badly("%s.certificateRequest: it is missing", in)
	}
	a.CallerInfo = clean(a.CallerInfo, maxCaller)
	return nil
}

// request opens the PKCS #10, and the challenge inside. The error is a *issuance.Fault.
func (a *asked) request() (csr *x509.CertificateRequest, challenge string, err error) {
	text := strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return -1
		}
		return r
	}, a.CertificateRequest)
	der, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, "", undecodable("it is no base64")
	}
	if csr, err = x509.ParseCertificateRequest(der); err != nil {
		return nil, "", undecodable("it is no PKCS #10")
	}
	if csr.CheckSignature() != nil { // first of all, before anything is said of the challenge (PA-06)
		return nil, "", &issuance.Fault{Code: issuance.SignatureValidationFailed, Detail: "the request is not signed by its own key"}
	}
	if challenge, err = scepmsg.ChallengePassword(csr); err != nil {
		return nil, "", undecodable("its challenge password cannot be read")
	}
	return csr, challenge, nil
}

func undecodable(why string) error {
	return &issuance.Fault{Code: issuance.CertificateRequestDecodingFailed, Detail: "certificateRequest: " + why}
}

// thumbprint reads a SHA-1 in hex, however it is set apart.
func thumbprint(text string) (string, error) {
	if len(text) > 3*20 {
		return "", badly("notification.certificateThumbprint: it is longer than a SHA-1")
	}
	plain := strings.NewReplacer(" ", "", ":", "", "-", "").Replace(text)
	raw, err := hex.DecodeString(plain)
	if err != nil || len(raw) != 20 {
		return "", badly("notification.certificateThumbprint: it is not a SHA-1 in hex")
	}
	return hex.EncodeToString(raw), nil
}

// serial writes a number as certificates are listed here: lower-case hex, where it is hex at all.
func serial(text string) string {
	plain := strings.ToLower(strings.NewReplacer(" ", "", ":", "", "-", "").Replace(strings.TrimPrefix(text, "0x")))
	if strings.Trim(plain, "0123456789abcdef") != "" {
		return text
	}
	return plain
}

// endOf reads a time of ISO 8601 in UTC, with or without a fraction and a zone.
func endOf(text string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04:05Z0700", "2006-01-02 15:04:05Z07:00", "2006-01-02 15:04:05"} {
		t, err := time.Parse(layout, text)
		if err == nil && t.Year() >= 1 && t.Year() <= 9999 {
			return t.UTC().Truncate(time.Second), nil
		}
	}
	return time.Time{}, badly("notification.certificateExpirationDateUtc: it is no time such as 2027-01-31T12:00:00Z")
}

// said checks a text that is kept as the partner wrote it: it must know it again.
func said(field, text string, limit int, needed bool) error {
	switch {
	case needed && text == "":
		return badly("notification.%s: it is missing", field)
	case len([]rune(text)) > limit || !printable(text):
		return badly("notification.%s: it has at most %d printable characters", field, limit)
	}
	return nil
}

func printable(text string) bool {
	return strings.IndexFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) < 0
}

// clean makes a text fit for people's eyes.
func clean(text string, limit int) string {
	return clipped(strings.TrimSpace(strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return ' '
		}
		return r
	}, text)), limit)
}
