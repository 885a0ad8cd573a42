package journeys

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/waxseal/waxseal/internal/scepmsg"
)

// partnerCA is a CA of others: it answers SCEP, and asks the server whether a request is right as Microsoft's libraries do.
type partnerCA struct {
	cert        *x509.Certificate
	key         *rsa.PrivateKey
	credentials string // file with app id and secret, a line each
	closed      string // while this file is there, nothing is issued
	server      string
	http        *http.Client
	serial      atomic.Int64
}

// partner NAME starts one: PARTNER is where devices ask it, NAME.pem is its certificate. It reads what `waxctl partner add` printed
// from NAME.credentials, and refuses everything while there is a file NAME.closed.
func startPartner(ts *testscript.TestScript, neg bool, args []string) {
	positive(ts, neg)
	need(ts, len(args) == 1, "partner NAME")
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	ts.Check(err)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: args[0]}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(9, 0, 0),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign | x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	ts.Check(err)
	p := partnerOf(ts, args[0])
	p.key = key
	p.cert, err = x509.ParseCertificate(der)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]+".pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	s := httptest.NewServer(p)
	ts.Defer(s.Close)
	ts.Setenv("PARTNER", s.URL+"/scep")
}

// partnerOf is the side of a partner that speaks to the server.
func partnerOf(ts *testscript.TestScript, name string) *partnerCA {
	client, err := trusting(ts.Getenv("WAXCTL_CA"))
	ts.Check(err)
	return &partnerCA{credentials: ts.MkAbs(name + ".credentials"), closed: ts.MkAbs(name + ".closed"), server: ts.Getenv("WAXCTL_SERVER"), http: client}
}

// revokes NAME has the partner do what it is asked to revoke, and prints how much that was.
func partnerRevokes(ts *testscript.TestScript, neg bool, args []string) {
	need(ts, len(args) == 1, "revokes NAME")
	var asked struct {
		Value []struct{ RequestContext, SerialNumber string }
	}
	p := partnerOf(ts, args[0])
	err := p.call("PkiConnectorFEService", "CertificateAuthorityRequests/downloadRevocationRequests", "5019-05-05", object{"downloadParameters": object{"maxRequests": 500, "issuerName": nil}}, &asked)
	outcome(ts, neg, err)
	var results []object
	for _, r := range asked.Value {
		results = append(results, object{"requestContext": r.RequestContext, "succeeded": true, "errorCode": "None", "errorMessage": ""})
	}
	if len(results) > 0 {
		ts.Check(p.call("PkiConnectorFEService", "CertificateAuthorityRequests/uploadRevocationResults", "5019-05-05", object{"results": results}, &struct{}{}))
	}
	_, _ = fmt.Fprintf(ts.Stdout(), "%d\n", len(results))
}

type object map[string]any

func (p *partnerCA) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Query().Get("operation") {
	case "GetCACaps":
		_, _ = io.WriteString(w, "POSTPKIOperation\nSHA-256\nAES\nSCEPStandard\n")
	case "GetCACert":
		w.Header().Set("Content-Type", "application/x-x509-ca-cert")
		_, _ = w.Write(p.cert.Raw)
	case "PKIOperation":
		answer, err := p.operate(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/x-pki-message")
		_, _ = w.Write(answer)
	default:
		http.NotFound(w, r)
	}
}

func (p *partnerCA) operate(r *http.Request) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		return nil, err
	}
	req, err := scepmsg.ParseRequest(body, p.cert, p.key)
	if err != nil {
		return nil, err
	}
	cert, err := p.certify(req)
	if err != nil {
		return scepmsg.Failure(req, scepmsg.BadRequest, p.cert, p.key)
	}
	return scepmsg.Success(req, cert, []*x509.Certificate{p.cert}, p.cert, p.key)
}

// certify issues what the server finds right, and hands it out when the server has taken note.
func (p *partnerCA) certify(req *scepmsg.Request) (*x509.Certificate, error) {
	common := func(more object) object {
		more["transactionId"], more["certificateRequest"], more["callerInfo"] = req.TransactionID, base64.StdEncoding.EncodeToString(req.CSR.Raw), "Partner 1.0"
		return more
	}
	if err := p.ask("validateRequest", object{"request": common(object{})}); err != nil {
		return nil, err
	}
	if _, err := os.Stat(p.closed); err == nil {
		err := p.ask("failureNotification", object{"notification": common(object{"hResult": -2146885628, "errorDescription": "the CA is closed on Sundays"})})
		return nil, errors.Join(errors.New("closed"), err)
	}
	cert, err := p.sign(req.CSR)
	if err != nil {
		return nil, err
	}
	sum := sha1.Sum(cert.Raw)
	return cert, p.ask("successNotification", object{"notification": common(object{"certificateThumbprint": hex.EncodeToString(sum[:]),
		"certificateSerialNumber": cert.SerialNumber.Text(16), "certificateExpirationDateUtc": cert.NotAfter.UTC().Format(time.RFC3339), "issuingCertificateAuthority": p.cert.Subject.String()})})
}

// sign takes the names from the request, and adds what a certificate for mail needs.
func (p *partnerCA) sign(csr *x509.CertificateRequest) (*x509.Certificate, error) {
	template := &x509.Certificate{SerialNumber: big.NewInt(1<<40 + p.serial.Add(1)), RawSubject: csr.RawSubject, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}}
	for _, e := range csr.Extensions {
		if e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 17}) {
			template.ExtraExtensions = append(template.ExtraExtensions, e)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, p.cert, csr.PublicKey, p.key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// ask makes a call about a request; anything but Success is an error.
func (p *partnerCA) ask(call string, body object) error {
	var verdict struct{ Code, ErrorDescription string }
	err := p.call("ScepRequestValidationFEService", "ScepActions/"+call, "2018-02-20", body, &verdict)
	if err == nil && verdict.Code != "Success" {
		err = fmt.Errorf("%s: %s: %s", call, verdict.Code, verdict.ErrorDescription)
	}
	return err
}

// call finds the service as libraries do, and posts.
func (p *partnerCA) call(service, path, version string, body, out any) error {
	token, err := p.token()
	if err != nil {
		return err
	}
	var services struct {
		Value []struct{ ProviderName, URI string }
	}
	if err := p.do(http.MethodGet, p.server+"/v1.0/servicePrincipals/appId=0000000a-0000-0000-c000-000000000000/endpoints", token, "", nil, &services); err != nil {
		return err
	}
	raw, err := json.Marshal(body)
	if err != nil {
		return err
	}
	for _, s := range services.Value {
		if strings.EqualFold(s.ProviderName, service) {
			return p.do(http.MethodPost, s.URI+"/"+path, token, version, raw, out)
		}
	}
	return fmt.Errorf("service %s is not found", service)
}

func (p *partnerCA) token() (string, error) {
	raw, err := os.ReadFile(p.credentials)
	if err != nil {
		return "", err
	}
	words := strings.Fields(string(raw))
	if len(words) != 2 {
		return "", fmt.Errorf("%s has %d words", p.credentials, len(words))
	}
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": words[:1], "client_secret": words[1:], "scope": {p.server + "//.default"}}
	resp, err := p.http.PostForm(p.server+"/adfs/oauth2/token", form)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close() //nolint:errcheck // nothing is lost
	var out struct {
		Token string `json:"access_token"`
	}
	return out.Token, json.NewDecoder(resp.Body).Decode(&out)
}

func (p *partnerCA) do(method, target, token, version string, body []byte, out any) error {
	req, err := http.NewRequest(method, target, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("api-version", version)
	resp, err := p.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // nothing is lost
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", target, resp.Status)
	}
	return json.NewDecoder(resp.Body).Decode(out)
}
