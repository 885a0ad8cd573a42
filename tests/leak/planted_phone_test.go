package leak

import (
	"crypto/rand"
	"crypto/x509"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/platforms/android/companion"
)

// token is one of 256 bits, as links, credentials and challenges are. It is planted, not made.
const token = "q2xO0VtXb3Jc5yI8mA7uW1ZrD4kT6hLgN9pSeFvYjRE"

// wrapped is the secret of one identity as a connector puts it into an envelope (android.md section 8.3).
func (p planter) wrapped(t testing.TB, form string) []byte {
	t.Helper()
	out, err := json.Marshal(companion.Secret{Format: companion.SecretFormat, Key: p.structures(t)[form],
		Chain: [][]byte{certificate(t, p.rsa).Raw}, CertSHA256: strings.Repeat("0", 64), ItemID: "identity:smime-enc-0", Revision: "1"})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// envelopeOf is the answer that brings an envelope to a companion app.
func envelopeOf(t testing.TB, envelope []byte) []byte {
	t.Helper()
	out, err := json.Marshal(companion.PayloadResponse{Envelope: envelope})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestEnvelopesThatHideNothingAreFound: a key that went to a phone as it is, signed only, or sealed to somebody who must not
// read it.
func TestEnvelopesThatHideNothingAreFound(t *testing.T) {
	p, phone, server := newPlanter(t), newPlanter(t), newPlanter(t)
	mine := []opener{{"tls-key.pem", certificate(t, server.rsa), server.rsa}}
	for form, kind := range map[string]string{"rsa PKCS#8": "rsa: prime p", "ec PKCS#8": "ec: scalar"} {
		secret := p.wrapped(t, form)
		signed, err := cms.Sign(secret, certificate(t, server.rsa), server.rsa, cms.SignOptions{})
		if err != nil {
			t.Fatal(err)
		}
		sealed := func(to planter) []byte {
			der, err := cms.Encrypt(rand.Reader, secret, []*x509.Certificate{certificate(t, to.rsa)}, cms.EncryptOptions{})
			if err != nil {
				t.Fatal(err)
			}
			return der
		}
		for name, c := range map[string]struct {
			envelope []byte
			found    bool
		}{
			"in clear": {secret, true}, "signed": {signed, true}, "to the server": {sealed(server), true}, "to the phone": {sealed(phone), false},
		} {
			answer := envelopeOf(t, c.envelope)
			for place, data := range map[string][]byte{"answer": answer, "log": []byte(fmt.Sprintf("level=DEBUG msg=answer body=%q", answer)),
				"row": c.envelope, "hex": []byte(hex.EncodeToString(c.envelope))} {
				s := newScanner(p.secrets(t), nil, mine...)
				if s.scan(place, data); names(s.findings, kind) != c.found {
					t.Errorf("%s, an envelope %s as %s: found %v", form, name, place, s.findings)
				}
				stranger := newScanner(nil, nil, mine...)
				if stranger.scan(place, data); names(stranger.findings, "private key (PKCS#8)") != c.found {
					t.Errorf("%s of nobody known, an envelope %s as %s: found %v", form, name, place, stranger.findings)
				}
			}
		}
	}
}

// TestABareKeyInJSONIsFound: PKCS#8 as it stands in the messages of the companion protocol and of the connector's.
func TestABareKeyInJSONIsFound(t *testing.T) {
	p := newPlanter(t)
	for form, kind := range map[string]string{"rsa PKCS#8": "rsa: ", "ec PKCS#8": "ec: ", "ed25519 PKCS#8": "ed25519: "} {
		content := p.wrapped(t, form)
		result, err := json.Marshal(map[string]any{"payload": content})
		if err != nil {
			t.Fatal(err)
		}
		for name, data := range map[string][]byte{
			"a secret": content, "a connector's answer": result, "a state": []byte(`{"items":[{"identity":` + string(content) + `}]}`),
			"base64 for URLs": []byte(`{"key":"` + base64.RawURLEncoding.EncodeToString(p.structures(t)[form]) + `"}`),
			"a JSON string":   []byte(fmt.Sprintf("msg=%q", content)),
		} {
			for known, secrets := range map[string][]secret{"known": p.secrets(t), "unknown": nil} {
				s := newScanner(secrets, nil)
				want := kind
				if known == "unknown" {
					want = "private key (PKCS#8)"
				}
				if s.scan(name, data); !names(s.findings, want) {
					t.Errorf("%s, %s, as %s was not found: %v", form, known, name, s.findings)
				}
			}
		}
	}
}

// TestTokensAreFound: credentials and one-time tokens where programs and proxies write them.
func TestTokensAreFound(t *testing.T) {
	h := &house{t: t, passing: map[string]passing{}}
	h.passes("token", token, byCompanionLink)
	h.passing["bootstrap"] = passing{[]string{strings.Repeat("bootstrap", 8)}, ofBootstrap}
	secrets, travels := h.passingSecrets()
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		t.Fatal(err)
	}
	bootstrap := []byte(h.passing["bootstrap"].forms[0])
	for place, c := range map[string]struct {
		data []byte
		want string // empty: it may pass
	}{
		"logs/server.log":                              {[]byte(`level=INFO msg=request path=/enroll/` + token + ` status=200`), "token"},
		"logs/waxseal-server-calls.log":                {[]byte(`{"header":{"Authorization":["Bearer 0e0c7f1a-6b8e-4c57-9b1e-0b6b5f2c1d12.` + token + `"]}}`), "token"},
		"table links, row 1, token_hash":               {[]byte(token), "token"},
		"table enrolments, row 1, credential_hash":     {[]byte(hex.EncodeToString(raw)), "token"},
		"table enrolments, row 2, credential_hash":     {raw, "token"},
		"table audit, row 1, detail":                   {[]byte(`{"link":"https://mdm.corp.test/enroll/` + token + `"}`), "token"},
		"table audit, row 2, detail":                   {[]byte(in64([]byte("token=" + token))), "token"},
		"envelope: table jobs, row 1, payload":         {[]byte(`{"token":"` + token + `"}`), "token"},
		"header 1: GET /agent/v1/state, request":       {[]byte("GET /agent/v1/state?token=" + url.QueryEscape(token)), "token"},
		"body 1: GET /agent/v1/state, answer 200 OK":   {[]byte(`{"enrollment_token":"` + token + `"}`), "token"},
		"logs/waxctl-calls.log":                        {[]byte("https://mdm.corp.test/enroll/" + token), ""},
		"body 2: POST /agent/v1/enroll, request":       {[]byte(`{"enrollment_token":"` + token + `"}`), ""},
		"logs/connector.log":                           {[]byte("plist: " + in64(bootstrap)), "bootstrap"},
		"table audit, row 3, detail":                   {[]byte(`{"bootstrapToken":"` + hex.EncodeToString(bootstrap) + `"}`), "bootstrap"},
		"table commands, row 1, body":                  {bootstrap, "bootstrap"},
		"user channel: table settings, row 1, name":    {bootstrap, "bootstrap"},
		"table settings, row 1, value":                 {[]byte(`"` + in64(bootstrap) + `"`), ""},
		"session: table settings, row 1, value":        {[]byte(`"` + in64(bootstrap) + `"`), ""},
		"body 3: PUT /mdm/apple/checkin, request":      {[]byte("<data>" + in64(bootstrap) + "</data>"), ""},
		"body 4: POST /connector/v1/claim, answer 200": {[]byte(in64(bootstrap)), "bootstrap"},
	} {
		s := newScanner(secrets, nil)
		s.travels = travels
		s.scan(place, c.data)
		if c.want == "" && (len(s.findings) > 0 || len(s.seen) == 0) || c.want != "" && !names(s.findings, c.want) {
			t.Errorf("%s: found %v, seen %v", place, s.findings, s.seen)
		}
	}
}

// TestAPlantedTokenInADatabaseIsFound in its tables, and in the file behind them.
func TestAPlantedTokenInADatabaseIsFound(t *testing.T) {
	path := filepath.Join(t.TempDir(), "planted.db")
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(WAL)")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	h := &house{t: t, passing: map[string]passing{}}
	h.passes("token", token, byCompanionLink)
	secrets, travels := h.passingSecrets()
	for _, statement := range []string{"CREATE TABLE links (id INTEGER, token_hash TEXT)", "INSERT INTO links VALUES (1, '" + token + "')"} {
		if _, err := db.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	s := newScanner(secrets, nil)
	s.travels = travels
	if s.scanDatabase(t, path); !names(s.findings, "token") {
		t.Errorf("the token was not found in the table: %v", s.findings)
	}
	s.findings = nil
	if s.scanFolder(t, "data folder", filepath.Dir(path)); !names(s.findings, "token") {
		t.Errorf("the token was not found in the file: %v", s.findings)
	}
}

// TestAProfileOfAMacThatIsNotEncryptedIsFound: an identity in a profile that was signed only, in the command that installs it.
func TestAProfileOfAMacThatIsNotEncryptedIsFound(t *testing.T) {
	p, server := newPlanter(t), newPlanter(t)
	for flavour, blob := range p.delivered(t, pfxPassword) {
		profile := mobileconfig("com.apple.security.pkcs12", "<key>PayloadContent</key><data>"+in64(blob)+"</data><key>Password</key><string>"+pfxPassword+"</string>")
		signed, err := cms.Sign(profile, certificate(t, server.rsa), server.rsa, cms.SignOptions{})
		if err != nil {
			t.Fatal(err)
		}
		command := func(payload []byte) []byte {
			return []byte("<plist><dict><key>Command</key><dict><key>Payload</key>\n<data>\n" + in64(payload) + "\n</data></dict></dict></plist>")
		}
		for place, data := range map[string][]byte{
			"body 1: PUT /mdm/apple/command, answer 200 OK": command(signed), "table documents, row 1, payload": signed,
			"user channel: table documents, row 1, payload": command(profile),
		} {
			s := newScanner(p.secrets(t), nil)
			s.carries = carriesPKCS12
			if s.scan(place, data); !names(s.findings, fmt.Sprintf("PKCS#12 of %d bytes whose password lies beside it", len(blob))) {
				t.Errorf("%s, %s: found %v", flavour, place, s.findings)
			}
		}
	}
}
