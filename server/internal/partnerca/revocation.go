package partnerca

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/waxseal/waxseal/server/internal/model"
)

const (
	// maxRequests is the most that one download gives (IntuneRevocationClient: MAXREQUESTS_MAXVALUE).
	maxRequests = 500
	// maxUpload is room for as many results with a sentence each.
	maxUpload = 1 << 20
	// revocationLease is how long a partner may work on what it took; what it does not answer comes again then.
	revocationLease = 15 * time.Minute
	// revocationRetry is when something that failed for now is handed out again.
	revocationRetry = 30 * time.Minute
	maxContext      = 128
)

type downloadParameters struct {
	Parameters *struct {
		MaxRequests int     `json:"maxRequests"`
		IssuerName  *string `json:"issuerName"`
	} `json:"downloadParameters"`
}

// revocationRequest has the certificate in the words of the partner that issued it.
type revocationRequest struct {
	Context         string `json:"requestContext"`
	Serial          string `json:"serialNumber"`
	Issuer          string `json:"issuerName"`
	CAConfiguration string `json:"caConfiguration"`
}

type revocationRequests struct {
	Value []revocationRequest `json:"value"`
}

// download leases revocations to the partner.
func (e *Endpoint) download(ctx context.Context, p model.Partner, body []byte) (any, error) {
	in, err := decode[downloadParameters](body)
	if err != nil {
		return nil, err
	}
	if in.Parameters == nil || in.Parameters.MaxRequests < 1 || in.Parameters.MaxRequests > maxRequests {
		return nil, badly("downloadParameters.maxRequests: it is 1 to %d", maxRequests)
	}
	issuer := ""
	if in.Parameters.IssuerName != nil {
		issuer = *in.Parameters.IssuerName
	}
	if len([]rune(issuer)) > maxName || !printable(issuer) {
		return nil, badly("downloadParameters.issuerName: it has at most %d printable characters", maxName)
	}
	audit := e.entry(p, "partner.revocations", p.Name, map[string]string{"issuer": issuer})
	claimed, err := e.cfg.Store.ClaimRevocations(ctx, p.Name, issuer, in.Parameters.MaxRequests, revocationLease, audit)
	if err != nil {
		return nil, err
	}
	out := revocationRequests{Value: []revocationRequest{}}
	for _, c := range claimed {
		out.Value = append(out.Value, revocationRequest{Context: c.JobID, Serial: c.Serial, Issuer: c.Issuer, CAConfiguration: c.CAConfiguration})
	}
	return out, nil
}

type revocationResult struct {
	Context   string    `json:"requestContext"`
	Succeeded bool      `json:"succeeded"`
	Code      errorCode `json:"errorCode"`
	Message   string    `json:"errorMessage"`
}

type revocationResults struct {
	Results []revocationResult `json:"results"`
}

type accepted struct {
	Value bool `json:"value"`
}

// upload stores what became of revocations. One result that breaks the rules refuses all, so that nothing is half known.
func (e *Endpoint) upload(ctx context.Context, p model.Partner, body []byte) (any, error) {
	in, err := decode[revocationResults](body)
	if err != nil {
		return nil, err
	}
	if len(in.Results) < 1 || len(in.Results) > maxRequests {
		return nil, badly("results: there are 1 to %d", maxRequests)
	}
	now := e.cfg.Clock()
	var answers []model.RevocationAnswer
	for i, r := range in.Results {
		a, err := r.answer(now)
		if err != nil {
			return nil, badly("results[%d]: %v", i, err)
		}
		answers = append(answers, a)
	}
	audit := e.entry(p, "partner.revoked", p.Name, map[string]string{"results": fmt.Sprint(len(answers))})
	if err := e.cfg.Store.AnswerRevocations(ctx, p.Name, answers, audit); err != nil {
		return nil, err
	}
	e.cfg.Kick()
	return accepted{true}, nil
}

// answer holds a result against the rules of both libraries (PA-05); only the C# one sends a failure without a code.
func (r revocationResult) answer(now time.Time) (model.RevocationAnswer, error) {
	a := model.RevocationAnswer{JobID: r.Context}
	switch {
	case r.Context == "" || len(r.Context) > maxContext || !printable(r.Context):
		return a, errors.New("requestContext: it is that of a request")
	case r.Succeeded && (r.Code.number != 0 || r.Message != ""):
		return a, errors.New("succeeded is true, but there is an errorCode or an errorMessage")
	case r.Succeeded || r.Code.number == conflict:
		a.Revoked = true // a conflict: it was revoked before
		return a, nil
	}
	a.Error = clean(fmt.Sprintf("%s (%d) %s", r.Code.name(), r.Code.number, r.Message), maxDescription)
	if r.Code.passes() {
		a.RetryAt = now.Add(revocationRetry)
	}
	return a, nil
}

// conflict is ConflictError: the certificate is revoked already.
const conflict = 4005

// errorCodes are those of CARequestErrorCode, in both libraries.
func errorCodes() map[int]string {
	return map[int]string{0: "None", 4000: "NonRetryableServiceException", 4001: "DataSerializationError", 4002: "ParameterDataInvalidError", 4003: "CryptographyError",
		4004: "CertificateNotFoundError", conflict: "ConflictError", 4006: "NotSupportedError", 4007: "PayloadTooLargeError",
		4100: "RetryableServiceException", 4101: "ServiceUnavailableException", 4102: "ServiceTooBusyException", 4103: "AuthenticationException"}
}

// errorCode is a name, as the C# library sends it, or a number, which the Java library sends as text (PA-03).
type errorCode struct{ number int }

// UnmarshalJSON implements json.Unmarshaler.
func (c *errorCode) UnmarshalJSON(raw []byte) error {
	text := strings.Trim(string(raw), `"`)
	if text == "null" || text == "" {
		return nil
	}
	for number, name := range errorCodes() {
		if strings.EqualFold(text, name) || text == fmt.Sprint(number) {
			c.number = number
			return nil
		}
	}
	return errors.New("errorCode: it is neither a name nor a number of the API")
}

func (c errorCode) name() string { return errorCodes()[c.number] }

// passes tells whether trying again can help; it can where nothing is said.
func (c errorCode) passes() bool { return c.number == 0 || c.number >= 4100 }

var _ json.Unmarshaler = (*errorCode)(nil)
