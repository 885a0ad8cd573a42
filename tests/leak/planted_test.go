package leak

import (
	"bytes"
	"compress/gzip"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/internal/pfx"
	"github.com/waxseal/waxseal/testdata"
)

// planter makes one of each key and what a leak of it looks like.
type planter struct {
	rsa *rsa.PrivateKey
	ec  *ecdsa.PrivateKey
	ed  ed25519.PrivateKey
}

func newPlanter(t testing.TB) planter {
	t.Helper()
	var p planter
	var err error
	if p.rsa, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		t.Fatal(err)
	}
	if p.ec, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	if _, p.ed, err = ed25519.GenerateKey(rand.Reader); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p planter) secrets(t testing.TB) []secret {
	all := append(keySecrets(t, "rsa", p.rsa), keySecrets(t, "ec", p.ec)...)
	return append(all, keySecrets(t, "ed25519", p.ed)...)
}

// structures are the binary forms in which a key leaks, with the word that a finding must name.
func (p planter) structures(t testing.TB) map[string][]byte {
	t.Helper()
	pkcs8 := func(key crypto.PrivateKey) []byte {
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	sec1, err := x509.MarshalECPrivateKey(p.ec)
	if err != nil {
		t.Fatal(err)
	}
	scalar, err := p.ec.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{
		"rsa PKCS#8": pkcs8(p.rsa), "rsa PKCS#1": x509.MarshalPKCS1PrivateKey(p.rsa), "rsa prime p": p.rsa.Primes[0].Bytes(),
		"rsa prime q": p.rsa.Primes[1].Bytes(), "rsa exponent": p.rsa.D.Bytes(), "rsa half a prime": p.rsa.Primes[0].Bytes()[40:70],
		"ec PKCS#8": pkcs8(p.ec), "ec SEC1": sec1, "ec scalar": scalar, "ed25519 PKCS#8": pkcs8(p.ed), "ed25519 seed": p.ed.Seed(),
	}
}

// wrappings are the ways in which bytes hide in files, rows and bodies.
func wrappings() map[string]func([]byte) []byte {
	std := base64.StdEncoding
	lines := func(text, end string, width int) string {
		var b strings.Builder
		for ; len(text) > width; text = text[width:] {
			b.WriteString(text[:width] + end)
		}
		return b.String() + text
	}
	out := map[string]func([]byte) []byte{
		"bytes":           func(d []byte) []byte { return append([]byte("\x00before"), append(d, "after\xff"...)...) },
		"hex":             func(d []byte) []byte { return []byte("key=" + hex.EncodeToString(d)) },
		"HEX":             func(d []byte) []byte { return []byte(strings.ToUpper(hex.EncodeToString(d)) + ";") },
		"hex with colons": func(d []byte) []byte { return []byte("prime1:\n    " + colons(d)) },
		"base64 for URLs": func(d []byte) []byte { return []byte(`"` + base64.RawURLEncoding.EncodeToString(d) + `"`) },
		"base64 with lines": func(d []byte) []byte {
			return []byte("<data>\n\t" + lines(std.EncodeToString(d), "\n\t", 64) + "\n</data>")
		},
		"base64 with CRLF": func(d []byte) []byte { return []byte(lines(std.EncodeToString(d), "\r\n", 76)) },
		"base64 in JSON":   func(d []byte) []byte { j, _ := json.Marshal(map[string]any{"field": d}); return j },
		"lines in JSON": func(d []byte) []byte {
			j, _ := json.Marshal(map[string]string{"pem": lines(std.EncodeToString(d), "\n", 64)})
			return j
		},
		"base64 in a query": func(d []byte) []byte { return []byte("message=" + url.QueryEscape(std.EncodeToString(d)) + "&x=1") },
		"base64 of base64": func(d []byte) []byte {
			return []byte(std.EncodeToString([]byte("<data>" + std.EncodeToString(d) + "</data>")))
		},
		"base64 of hex":       func(d []byte) []byte { return []byte(std.EncodeToString([]byte("x" + hex.EncodeToString(d)))) },
		"gzip":                zipped,
		"pieces of a message": func(d []byte) []byte { return []byte(lines(string(d), "\x04\x82\x00\x18", 24)) },
	}
	for before := range 3 {
		out[fmt.Sprintf("base64 behind %d bytes", before)] = func(d []byte) []byte {
			return []byte(`{"k":"` + std.EncodeToString(append([]byte("ab")[:min(before, 2)], d...)) + `"}`)
		}
		out[fmt.Sprintf("base64 behind %d letters", before+1)] = func(d []byte) []byte {
			return []byte("abc"[:before+1] + std.EncodeToString(d))
		}
	}
	return out
}

func colons(d []byte) string {
	var b strings.Builder
	for i, c := range d {
		if i > 0 {
			b.WriteByte(':')
		}
		if i > 0 && i%15 == 0 {
			b.WriteString("\n    ")
		}
		fmt.Fprintf(&b, "%02x", c)
	}
	return b.String()
}

func zipped(d []byte) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(d)
	_ = w.Close()
	return b.Bytes()
}

func TestEveryFormOfAPlantedKeyIsFound(t *testing.T) {
	p := newPlanter(t)
	x := newIndex(p.secrets(t))
	for form, planted := range p.structures(t) {
		for wrapping, wrap := range wrappings() {
			s := &scanner{index: x}
			s.scan("planted", wrap(bytes.Clone(planted)))
			kind, _, _ := strings.Cut(form, " ")
			if !names(s.findings, kind+": ") {
				t.Errorf("%s as %s was not found: %v", form, wrapping, s.findings)
			}
		}
	}
}

// names tells whether a finding is about that secret.
func names(findings []finding, what string) bool {
	for _, f := range findings {
		if strings.HasPrefix(f.what, what) {
			return true
		}
	}
	return false
}

func TestNothingIsFoundWhereNothingIs(t *testing.T) {
	p := newPlanter(t)
	s := newScanner(p.secrets(t), []string{"summer of 2016"})
	public, err := x509.MarshalPKIXPublicKey(p.rsa.Public())
	if err != nil {
		t.Fatal(err)
	}
	for name, wrap := range wrappings() {
		s.scan(name, wrap(public))
		s.scan(name, wrap(p.ed.Public().(ed25519.PublicKey)))
	}
	s.scan("certificate", certificate(t, p.rsa).Raw)
	if len(s.findings) != 0 {
		t.Errorf("public things were found: %v", s.findings)
	}
}

func TestAKeyOfWhomeverIsFound(t *testing.T) {
	stranger := newPlanter(t)
	for form, planted := range stranger.structures(t) {
		_, structure, _ := strings.Cut(form, " ")
		if !strings.HasPrefix(structure, "PKCS#") && structure != "SEC1" {
			continue // a number alone is found by who knows it
		}
		block := &pem.Block{Type: "PRIVATE KEY", Bytes: planted}
		for place, data := range map[string][]byte{"der": planted, "pem": pem.EncodeToMemory(block), "note": []byte("x" + string(planted) + "y")} {
			s := newScanner(nil, nil)
			s.scan(place, data)
			if len(s.findings) == 0 {
				t.Errorf("%s as %s was not found", form, place)
			}
		}
	}
	s := newScanner(nil, nil)
	s.scan("encrypted", []byte("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"))
	if len(s.findings) == 0 {
		t.Error("an encrypted private key was not found")
	}
}

func TestTheServersOwnKeysAreAllowedInTheirFilesOnly(t *testing.T) {
	p := newPlanter(t)
	der := p.structures(t)["rsa PKCS#8"]
	file := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	s := newScanner(nil, nil)
	s.allowed["data/ra-key.pem"] = publicName(p.rsa)
	if s.scan("data/ra-key.pem", file); len(s.findings) != 0 {
		t.Errorf("the server's own key in its own file: %v", s.findings)
	}
	if s.scan("data/copy.pem", file); len(s.findings) == 0 {
		t.Error("the server's own key in another file was not found")
	}
	s.findings = nil
	other := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: p.structures(t)["ec PKCS#8"]})
	if s.scan("data/ra-key.pem", append(file, other...)); len(s.findings) == 0 {
		t.Error("another key in the file of the server's own key was not found")
	}
}

func TestPasswordsAndPKCS12AreFound(t *testing.T) {
	password := "summer of 2016"
	file := read(t, "pfx/alice-2016.pfx")
	empty := read(t, "pfx/alice-empty-password.pfx")
	for name, c := range map[string]struct {
		data []byte
		want string
	}{
		"password":                {[]byte("wrong password: " + password), "alice: password"},
		"short password":          {[]byte(base64.StdEncoding.EncodeToString([]byte("curves"))), "ec: password"},
		"password in UTF-16":      {[]byte("\x00s\x00u\x00m\x00m\x00e\x00r\x00 \x00o\x00f\x00 \x002\x000\x001\x006\x00\x00"), "alice: password in UTF-16"},
		"password in base64":      {[]byte(base64.StdEncoding.EncodeToString([]byte("p=" + password))), "alice: password"},
		"known password":          {file, "PKCS#12 of 3394 bytes that a known password opens"},
		"known, in base64":        {[]byte("<data>" + base64.StdEncoding.EncodeToString(file) + "</data>"), "PKCS#12 of 3394 bytes that a known password opens"},
		"empty password":          {append([]byte("{"), empty...), fmt.Sprintf("PKCS#12 of %d bytes that a known password opens", len(empty))},
		"password of nobody here": {read(t, "pfx/alice-2019.pfx"), "PKCS#12 of 3394 bytes"},
		"PKCS#12 of NSS, BER":     {read(t, "pfx/alice-nss.pfx"), "PKCS#12 of "},
	} {
		s := newScanner(append(passwordSecrets("alice", password), passwordSecrets("ec", "curves")...), []string{password})
		if s.scan(name, c.data); !names(s.findings, c.want) {
			t.Errorf("%s: found %v, want %q", name, s.findings, c.want)
		}
	}
}

func read(t testing.TB, name string) []byte {
	t.Helper()
	data, err := testdata.FS.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func certificate(t testing.TB, key crypto.Signer) *x509.Certificate {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<32, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// What is encrypted to a key of the server is as good as in the clear.
func TestWhatTheServerCanOpenIsOpened(t *testing.T) {
	p, server := newPlanter(t), newPlanter(t)
	cert := certificate(t, server.rsa)
	content := []byte("<data>" + base64.StdEncoding.EncodeToString(p.structures(t)["ec PKCS#8"]) + "</data>")
	message, err := cms.Encrypt(rand.Reader, content, []*x509.Certificate{cert}, cms.EncryptOptions{})
	if err != nil {
		t.Fatal(err)
	}
	body := []byte("<data>" + base64.StdEncoding.EncodeToString(message) + "</data>")
	closed := newScanner(p.secrets(t), nil)
	if closed.scan("body", body); len(closed.findings) != 0 {
		t.Errorf("an envelope that nobody opens: %v", closed.findings)
	}
	open := newScanner(p.secrets(t), nil, opener{"ra-key.pem", cert, server.rsa})
	if open.scan("body", body); !names(open.findings, "ec: scalar") || open.opened["ra-key.pem"] == 0 {
		t.Errorf("a key sealed to the server's own key was not found: %v", open.findings)
	}
}

func TestAPlantedRowIsFound(t *testing.T) {
	p := newPlanter(t)
	path := filepath.Join(t.TempDir(), "planted.db")
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(WAL)")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	for _, statement := range []string{"CREATE TABLE documents (id INTEGER, payload BLOB, note TEXT)", "INSERT INTO documents VALUES (1, zeroblob(5000), 'clean')"} {
		if _, err := db.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	s := newScanner(p.secrets(t), nil)
	if rows := s.scanDatabase(t, path); len(s.findings) != 0 || rows["documents"] != 1 {
		t.Fatalf("before: %v, %v", rows, s.findings)
	}
	blob := append(make([]byte, 9000), p.structures(t)["rsa PKCS#1"]...)
	text := base64.StdEncoding.EncodeToString(p.structures(t)["ec scalar"])
	if _, err := db.Exec("INSERT INTO documents VALUES (2, $1, $2)", blob, text); err != nil {
		t.Fatal(err)
	}
	s.scanDatabase(t, path)
	if !names(s.findings, "rsa: prime p") || !names(s.findings, "ec: scalar") {
		t.Errorf("planted rows were not found: %v", s.findings)
	}
	s.findings = nil
	if s.scanFolder(t, "data", filepath.Dir(path)); !names(s.findings, "ec: scalar") {
		t.Errorf("the planted row was not found in the files (WAL) either: %v", s.findings)
	}
}

func TestAPlantedFileIsFound(t *testing.T) {
	p := newPlanter(t)
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "cache"), 0o700); err != nil {
		t.Fatal(err)
	}
	line := `{"level":"ERROR","msg":"rendering failed","error":"bad key ` + hex.EncodeToString(p.ed.Seed()) + `"}`
	if err := os.WriteFile(filepath.Join(dir, "cache", "server.log"), []byte(line), 0o600); err != nil {
		t.Fatal(err)
	}
	s := newScanner(p.secrets(t), nil)
	if s.scanFolder(t, "data", dir); !names(s.findings, "ed25519: seed") || s.findings[0].place != "data/cache/server.log" {
		t.Errorf("found %v", s.findings)
	}
}

// The keys in PFX files are the ones that are looked for: they must be read right.
func pfxSecrets(t testing.TB, file string) (secrets []secret, password string) {
	t.Helper()
	password = strings.TrimRight(string(read(t, "pfx/"+file+".password")), "\r\n")
	identities, err := pfx.Decode(read(t, "pfx/"+file+".pfx"), password)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	for _, id := range identities {
		secrets = append(secrets, keySecrets(t, file, id.PrivateKey)...)
	}
	return append(secrets, passwordSecrets(file, password)...), password
}
