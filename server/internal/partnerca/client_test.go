package partnerca_test

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
)

// client is a CA's side, written from the description of Microsoft's two libraries. Like them it knows nothing of this server
// but what stands in its configuration.
type client struct {
	t      testing.TB
	java   bool // the Java library with MSAL; else the C# library of the time of ADAL
	config map[string]string
	uris   map[string]string // discovered, by the service's name in lower case
}

// configuration are the keys that an admin sets (docs/cas/partner.md).
func configuration(base, app string) map[string]string {
	return map[string]string{"AAD_APP_ID": app, "AAD_APP_KEY": secret, "TENANT": "waxseal", "AUTH_AUTHORITY": base + "/", "MSAL_GRAPH_RESOURCE_URL": base + "/",
		"MS_GRAPH_API_VERSION": "v1.0", "GRAPH_RESOURCE_URL": base + "/", "GRAPH_API_VERSION": "1.6", "INTUNE_RESOURCE_URL": base + "/",
		"INTUNE_APP_ID": "0000000a-0000-0000-c000-000000000000", "PROVIDER_NAME_AND_VERSION": "Partner 1.0", "ScepRequestValidationFEServiceVersion": "2018-02-20", "PkiConnectorFEServiceVersion": "5019-05-05"}
}

// dialects play a test as both libraries.
func dialects(t *testing.T, f func(t *testing.T, java bool)) {
	t.Run("java", func(t *testing.T) { f(t, true) })
	t.Run("csharp", func(t *testing.T) { f(t, false) })
}

func (w *world) client(java bool) *client {
	c := &client{t: w, java: java, config: configuration(w.url, w.partner.AppID)}
	if java {
		c.config["AUTH_AUTHORITY"] += "adfs/"
	}
	return c
}

// problem is an answer that is not 2xx.
type problem struct {
	status int
	body   string
}

func (p *problem) Error() string { return fmt.Sprintf("%d: %s", p.status, p.body) }

func (c *client) do(method, target string, header map[string]string, body []byte) (map[string]any, error) {
	req, err := http.NewRequestWithContext(context.Background(), method, target, bytes.NewReader(body))
	if err != nil {
		c.t.Fatal(err)
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	if resp.StatusCode/100 != 2 {
		return nil, &problem{resp.StatusCode, string(raw)}
	}
	if id := header["client-request-id"]; id != "" && resp.Header.Get("client-request-id") != id {
		c.t.Errorf("%s: client-request-id %q", target, resp.Header.Get("client-request-id"))
	}
	var out map[string]any
	if err := json.Unmarshal(raw, &out); err != nil {
		c.t.Fatalf("%s: %v in %s", target, err, raw)
	}
	return out, nil
}

// token asks as MSAL does, by scope, or as ADAL does, by resource.
func (c *client) token(resource string) (string, error) {
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {c.config["AAD_APP_ID"]}, "client_secret": {c.config["AAD_APP_KEY"]}}
	target := c.config["AUTH_AUTHORITY"] + c.config["TENANT"]
	if c.java { // MSAL asks Microsoft about every authority, but for one of the kind of AD FS, whose first segment is its all
		form.Set("scope", resource+"/.default") // with INTUNE_RESOURCE_URL, two slashes
		form.Set("client_info", "1")
		target = strings.TrimSuffix(target, "/"+c.config["TENANT"]) + "/oauth2/token"
	} else {
		form.Set("resource", resource)
		target += "/oauth2/token"
	}
	out, err := c.do(http.MethodPost, target, map[string]string{"Content-Type": "application/x-www-form-urlencoded", "client-request-id": uuid.NewString()}, []byte(form.Encode()))
	if err != nil {
		return "", err
	}
	token, _ := out["access_token"].(string)
	if token == "" || out["token_type"] != "Bearer" {
		c.t.Errorf("token answer %v", out)
	}
	return token, nil
}

// endpoint finds a service, by Microsoft Graph's words or by those of its predecessor.
func (c *client) endpoint(name string) (string, error) {
	if uri := c.uris[strings.ToLower(name)]; uri != "" {
		return uri, nil
	}
	resource, field := c.config["MSAL_GRAPH_RESOURCE_URL"], "providerName"
	target := resource + c.config["MS_GRAPH_API_VERSION"] + "/servicePrincipals/appId=" + c.config["INTUNE_APP_ID"] + "/endpoints"
	if !c.java {
		resource, field = c.config["GRAPH_RESOURCE_URL"], "serviceName"
		target = resource + c.config["TENANT"] + "/servicePrincipalsByAppId/" + c.config["INTUNE_APP_ID"] + "/serviceEndpoints?api-version=" + c.config["GRAPH_API_VERSION"]
	}
	token, err := c.token(resource)
	if err != nil {
		return "", err
	}
	out, err := c.do(http.MethodGet, target, map[string]string{"Authorization": "Bearer " + token, "client-request-id": uuid.NewString()}, nil)
	if err != nil {
		return "", err
	}
	c.uris = map[string]string{}
	for _, v := range out["value"].([]any) {
		service := v.(map[string]any)
		c.uris[strings.ToLower(service[field].(string))] = service["uri"].(string)
	}
	return c.uris[strings.ToLower(name)], nil
}

// post makes a call; any HTTP error empties the cache of services.
func (c *client) post(service, suffix string, body any) (map[string]any, error) {
	uri, err := c.endpoint(service)
	if err != nil {
		return nil, err
	}
	token, err := c.token(c.config["INTUNE_RESOURCE_URL"])
	if err != nil {
		return nil, err
	}
	header := map[string]string{"Authorization": "Bearer " + token, "client-request-id": uuid.NewString(), "api-version": c.config[service+"Version"], "Content-Type": "application/json; charset=utf-8"}
	if c.java {
		header["Content-Type"], header["UserAgent"] = "application/json", c.config["PROVIDER_NAME_AND_VERSION"]
	}
	raw, err := json.Marshal(body)
	if err != nil {
		c.t.Fatal(err)
	}
	out, err := c.do(http.MethodPost, uri+"/"+suffix, header, raw)
	if err != nil {
		c.uris = nil
	}
	return out, err
}

type fields map[string]any

func (c *client) scep(call, outer string, body fields) (string, error) {
	body["callerInfo"] = c.config["PROVIDER_NAME_AND_VERSION"]
	out, err := c.post("ScepRequestValidationFEService", "ScepActions/"+call, fields{outer: body})
	if err != nil {
		return "", err
	}
	code, ok := out["code"].(string)
	if _, described := out["errorDescription"].(string); !ok || !described {
		c.t.Errorf("%s: %v", call, out)
	}
	if !known(code) {
		c.t.Errorf("%s: the C# library throws at the code %q", call, code) // PA-02
	}
	return code, nil
}

func (c *client) validate(transaction string, csr []byte) (string, error) {
	return c.scep("validateRequest", "request", fields{"transactionId": transaction, "certificateRequest": base64.StdEncoding.EncodeToString(csr)})
}

func (c *client) success(transaction string, csr []byte, cert *x509.Certificate) (string, error) {
	sum := sha1.Sum(cert.Raw)
	return c.scep("successNotification", "notification", fields{"transactionId": transaction, "certificateRequest": base64.StdEncoding.EncodeToString(csr),
		"certificateThumbprint": strings.ToUpper(hex.EncodeToString(sum[:])), "certificateSerialNumber": strings.ToUpper(cert.SerialNumber.Text(16)),
		"certificateExpirationDateUtc": cert.NotAfter.UTC().Format("2006-01-02T15:04:05.000Z"), "issuingCertificateAuthority": cert.Issuer.CommonName,
		"caConfiguration": "the configuration", "certificateAuthority": "the authority"})
}

func (c *client) failure(transaction string, csr []byte, result int64, words string) (string, error) {
	return c.scep("failureNotification", "notification", fields{"transactionId": transaction, "certificateRequest": base64.StdEncoding.EncodeToString(csr),
		"hResult": result, "errorDescription": words})
}

// revocation is one of a download.
type revocation struct{ Context, Serial, Issuer, Configuration string }

func (c *client) download(limit int, issuer any) ([]revocation, error) {
	out, err := c.post("PkiConnectorFEService", "CertificateAuthorityRequests/downloadRevocationRequests", fields{"downloadParameters": fields{"maxRequests": limit, "issuerName": issuer}})
	if err != nil {
		return nil, err
	}
	list := []revocation{}
	for _, v := range out["value"].([]any) {
		m := v.(map[string]any)
		text := func(k string) string { s, _ := m[k].(string); return s }
		list = append(list, revocation{text("requestContext"), text("serialNumber"), text("issuerName"), text("caConfiguration")})
	}
	return list, nil
}

// result is one of an upload: number and name are the same code, of which each library sends its own.
type result struct {
	context   string
	succeeded bool
	number    int
	name      string
	message   any
}

func (c *client) upload(results ...result) error {
	var list []fields
	for _, r := range results {
		f := fields{"requestContext": r.context, "succeeded": r.succeeded, "errorCode": r.name, "errorMessage": r.message}
		if c.java {
			f["errorCode"] = fmt.Sprint(r.number)
		}
		list = append(list, f)
	}
	out, err := c.post("PkiConnectorFEService", "CertificateAuthorityRequests/uploadRevocationResults", fields{"results": list})
	if err == nil && out["value"] != true {
		c.t.Errorf("upload: %v", out)
	}
	return err
}

// known are the codes of the API, no more.
func known(code string) bool {
	return strings.Contains(" Unknown Success CertificateRequestDecodingFailed ChallengePasswordMissing ChallengeDeserializationError ChallengeDecryptionError "+
		"ChallengeDecodingError ChallengeInvalidTimestamp ChallengeExpired SubjectNameMissing SubjectNameMismatch SubjectAltNameMissing SubjectAltNameMismatch "+
		"KeyUsageMismatch KeyLengthMismatch EnhancedKeyUsageMissing EnhancedKeyUsageMismatch AadKeyIdentifierListMissing RegisteredKeyMismatch "+
		"SigningCertThumbprintMismatch ScepProfileNoLongerTargetedToTheClient SignatureValidationFailed BadCertificateRequestIdInChallenge BadDeviceIdInChallenge "+
		"BadUserIdInChallenge ", " "+code+" ")
}

// serve is a whole partner: it certifies what the server finds right, and hands out nothing unless its notification is taken.
func (w *world) serveDevice(c *client, transaction string, csr []byte, life time.Duration) (*x509.Certificate, string) {
	w.Helper()
	code, err := c.validate(transaction, csr)
	if err != nil || code != "Success" {
		return nil, fmt.Sprint("validate: ", code, err)
	}
	parsed, err := x509.ParseCertificateRequest(csr)
	w.ok(err)
	cert := w.issue(parsed, life)
	if code, err = c.success(transaction, csr, cert); err != nil || code != "Success" {
		return nil, fmt.Sprint("notify: ", code, err)
	}
	return cert, ""
}
