package leak

import (
	"crypto/rand"
	"crypto/x509"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/platforms/windows/syncml"
)

// The password of a delivery, as connectors make them. Planted ones are known to the test, as those of the story are.
const pfxPassword = "MFRGGZDFMZTWQ2LKNNWG23TPOA"

// forPCs are the places of this file where documents of PCs pass.
func forPCs(place string) bool { return strings.HasPrefix(place, "pc ") }

func in64(data []byte) string { return base64.StdEncoding.EncodeToString(data) }

// atomic is the message that brings a PKCS#12 to a PC (windows.md section 3.1).
func atomic(t testing.TB, blob []byte, password string) []byte {
	t.Helper()
	const node = "./User/Vendor/MSFT/ClientCertificateInstall/PFXCertInstall/0123456789ABCDEF0123456789ABCDEF01234567"
	add := func(name, format, data string) syncml.Command {
		return syncml.Command{Verb: syncml.Add, Items: []syncml.Item{{Target: node + "/" + name, Format: format, Data: data}}}
	}
	commands, _ := syncml.Number(1, []syncml.Command{{Verb: syncml.Atomic, Commands: []syncml.Command{
		add("KeyLocation", "int", "3"), add("PFXKeyExportable", "bool", "false"), add("PFXCertPassword", "chr", password),
		add("PFXCertPasswordEncryptionType", "int", "1"), add("PFXCertBlob", "chr", in64(blob)),
	}}})
	m := syncml.Message{SessionID: "5A", MsgID: 2, Target: "DEVICE", Source: "https://mdm.corp.test", Commands: commands, Final: true}
	raw, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// wide is text as Windows keeps it.
func wide(text []byte) []byte {
	out := []byte{0xff, 0xfe}
	for _, c := range text {
		out = append(out, c, 0)
	}
	return out
}

func (p planter) sealed(t testing.TB, to planter, content string) string {
	t.Helper()
	der, err := cms.Encrypt(rand.Reader, []byte(content), []*x509.Certificate{certificate(t, to.rsa)}, cms.EncryptOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return in64(der)
}

// TestPasswordsOfDeliveriesAreFound: with the passwords known afterwards, and without; each beside its file.
func TestPasswordsOfDeliveriesAreFound(t *testing.T) {
	p := newPlanter(t)
	for flavour, blob := range p.delivered(t, pfxPassword) {
		message := func(password string) []byte { return atomic(t, blob, password) }
		answer, _ := json.Marshal(map[string]any{"payload": []byte(`{"nodes":[{"data":"` + in64(blob) + `"},{"data":"` + pfxPassword + `"}]}`)})
		for name, data := range map[string][]byte{
			"SyncML":                       message(pfxPassword),
			"SyncML, in base64":            message(in64([]byte(pfxPassword))),
			"SyncML in UTF-16":             wide(message(pfxPassword)),
			"SyncML in a log line":         []byte(fmt.Sprintf("level=DEBUG msg=answer body=%q", message(pfxPassword))),
			"a connector's answer":         answer,
			"a connector's answer, base64": []byte(in64(answer)),
		} {
			for known, secrets := range map[string][]secret{"known": passwordSecrets("delivery", pfxPassword), "not known": nil} {
				s := newScanner(secrets, nil)
				s.carries = forPCs
				s.scan("pc "+name, data)
				if !names(s.findings, fmt.Sprintf("PKCS#12 of %d bytes whose password lies beside it", len(blob))) {
					t.Errorf("%s, %s, password %s: found %v", flavour, name, known, s.findings)
				}
				if known == "known" && !names(s.findings, "delivery: password") {
					t.Errorf("%s, %s: the password itself was not found: %v", flavour, name, s.findings)
				}
			}
		}
	}
}

// TestADeliveryMayPass: a password sealed to the PC, and the file where PCs' documents are. Nothing less will do.
func TestADeliveryMayPass(t *testing.T) {
	p, pc, server := newPlanter(t), newPlanter(t), newPlanter(t)
	for flavour, blob := range p.delivered(t, pfxPassword) {
		message := atomic(t, blob, p.sealed(t, pc, pfxPassword))
		for place, c := range map[string]struct {
			data    []byte
			sealed  []string
			openers []opener
			want    string // empty: nothing
		}{
			"pc message": {message, []string{pfxPassword}, nil, ""},
			"pc message, sealed to the server": {atomic(t, blob, p.sealed(t, server, pfxPassword)), []string{pfxPassword},
				[]opener{{"tls-key.pem", certificate(t, server.rsa), server.rsa}}, "delivery: password"},
			"pc message of a stranger": {message, nil, nil, "PKCS#12 of "},
			"logs/server.log":          {message, []string{pfxPassword}, nil, "PKCS#12 of "},
		} {
			s := newScanner(append(p.secrets(t), passwordSecrets("delivery", pfxPassword)...), []string{"summer of 2016"}, c.openers...)
			s.sealed, s.carries = c.sealed, forPCs
			s.scan(place, c.data)
			if c.want == "" && (len(s.findings) > 0 || s.carried != 1) {
				t.Errorf("%s, %s: carried %d, found %v", flavour, place, s.carried, s.findings)
			}
			if c.want != "" && !names(s.findings, c.want) {
				t.Errorf("%s, %s: found %v, want %s", flavour, place, s.findings, c.want)
			}
		}
	}
}

// TestKeysInFormsOfWindowsAreFound: where the protocols of Windows have room for something.
func TestKeysInFormsOfWindowsAreFound(t *testing.T) {
	p := newPlanter(t)
	x := newIndex(append(p.secrets(t), passwordSecrets("rsa", pfxPassword)...))
	provisioning := func(d []byte) []byte {
		return []byte(`<wap-provisioningdoc version="1.1"><characteristic type="APPLICATION"><parm name="AAUTHSECRET" value="` + in64(d) + `"/></characteristic></wap-provisioningdoc>`)
	}
	token := func(d []byte) []byte {
		return []byte(`<s:Envelope><o:BinarySecurityToken EncodingType="x#base64binary">` + "\r\n" + in64(d) + "\r\n" + `</o:BinarySecurityToken></s:Envelope>`)
	}
	data := func(d []byte) []byte { return []byte(`<Item><Data>` + in64(d) + `</Data></Item>`) }
	for form, planted := range p.structures(t) {
		kind, _, _ := strings.Cut(form, " ")
		for name, body := range map[string][]byte{
			"SyncML Data": data(planted), "SOAP token": token(planted), "provisioning document": provisioning(planted),
			"provisioning document in a token": token(provisioning(planted)), "SyncML in UTF-16": wide(data(planted)),
			"SyncML in UTF-16, other order": append([]byte{0}, wide(data(planted))[2:]...),
		} {
			s := &scanner{index: x}
			if s.scan(name, body); !names(s.findings, kind+": ") {
				t.Errorf("%s as %s was not found: %v", form, name, s.findings)
			}
		}
	}
	for name, body := range map[string][]byte{
		"a user name token":        []byte(`<wsse:Password>` + pfxPassword + `</wsse:Password>`),
		"a wresult":                []byte(`<input name="wresult" value="` + pfxPassword + `">`),
		"a token of base64 twice":  token([]byte(in64([]byte(pfxPassword)))),
		"text of Windows, base64":  []byte(in64(wide([]byte(pfxPassword)))),
		"a provisioning parameter": token([]byte(`<parm name="AAUTHSECRET" value="` + pfxPassword + `"/>`)),
	} {
		s := &scanner{index: x}
		if s.scan(name, body); !names(s.findings, "rsa: password") {
			t.Errorf("a secret as %s was not found: %v", name, s.findings)
		}
	}
}

// TestASecretMayTravelWhereItIsMeantTo and nowhere else.
func TestASecretMayTravelWhereItIsMeantTo(t *testing.T) {
	s := newScanner([]secret{{"one-time secret", []byte(pfxPassword)}}, nil)
	s.travels = map[string]func(string) bool{"one-time secret": forPCs}
	if s.scan("pc enrolment", []byte(pfxPassword)); len(s.findings) > 0 || s.seen["one-time secret"] == 0 {
		t.Errorf("where it may travel: seen %v, found %v", s.seen, s.findings)
	}
	if s.scan("table links", []byte(pfxPassword)); !names(s.findings, "one-time secret") {
		t.Errorf("elsewhere it was not found: %v", s.findings)
	}
}

// TestAPlantedSessionIsFound: what a session waits for, and a payload, with keys or with a password in them.
func TestAPlantedSessionIsFound(t *testing.T) {
	p := newPlanter(t)
	path := filepath.Join(t.TempDir(), "planted.db")
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=journal_mode(WAL)")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	for _, statement := range []string{"CREATE TABLE sessions (id INTEGER, state TEXT)", "CREATE TABLE documents (id INTEGER, payload BLOB)"} {
		if _, err := db.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	for flavour, blob := range p.delivered(t, pfxPassword) {
		key := in64(p.structures(t)["rsa PKCS#8"])
		for want, state := range map[string]string{
			"rsa: prime p":        `{"action":"install","checks":[{"expect":"` + key + `"}]}`,
			"delivery: password ": `{"action":"install","checks":[{"expect":"` + in64(wide([]byte(pfxPassword))) + `"}]}`,
			fmt.Sprintf("PKCS#12 of %d bytes whose password lies beside it", len(blob)): `{"blob":"` + in64(blob) + `","password":"` + pfxPassword + `"}`,
		} {
			for _, statement := range []string{"INSERT INTO sessions VALUES (1, $1)", "INSERT INTO documents VALUES (1, $1)"} {
				if _, err := db.Exec(statement, state); err != nil {
					t.Fatal(err)
				}
				s := newScanner(append(p.secrets(t), passwordSecrets("delivery", pfxPassword)...), nil)
				s.sealed, s.carries = []string{pfxPassword}, func(string) bool { return true }
				if s.scanDatabase(t, path); !names(s.findings, want) {
					t.Errorf("%s: %s: %s was not found: %v", flavour, statement, want, s.findings)
				}
				if _, err := db.Exec("DELETE FROM " + strings.Fields(statement)[2]); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}
