package apple

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/waxseal/waxseal/internal/pfx"
	"github.com/waxseal/waxseal/internal/testpki"
)

// Key and certificate must be tied by localKeyID, else friendlyName, and the key be in a shrouded bag (apple.md section 7.1):
// else the file holds no identity, whatever the version.
func TestImporterPairs(t *testing.T) {
	id := issue(t, testpki.NewCA(t, "mail CA"), testpki.Options{})
	path := filepath.Join(t.TempDir(), "id.pem")
	if err := os.WriteFile(path, append(id.CertPEM(), id.KeyPEM()...), 0o600); err != nil {
		t.Fatal(err)
	}
	good := p12(t, "x", id, pfx.LegacyDES)["PayloadContent"].([]byte)
	tests := map[string]struct {
		data []byte
		want string
	}{
		"another localKeyID": {testpki.Untie(t, good, id.Cert, "s3cret"), "localKeyID, else friendlyName"},
		"an unencrypted key": {openssl(t, nil, "pkcs12", "-export", "-in", path, "-passout", "pass:s3cret", "-keypbe", "NONE", "-certpbe", "PBE-SHA1-3DES", "-macalg", "sha1"), "shrouded key bag"},
	}
	for name, tt := range tests {
		for _, version := range []string{"17.7.2", "18.0"} {
			t.Run(name+" on "+version, func(t *testing.T) {
				d, err := Open(Config{State: t.TempDir(), OSVersion: version})
				if err != nil {
					t.Fatal(err)
				}
				defer d.Close() //nolint:errcheck // end of the test
				profile := profileDict("org.x", payloadDict(kindPKCS12, "x", dict{"PayloadContent": tt.data, "Password": "s3cret"}))
				contains(t, d.InstallFile(t.Context(), encode(t, profile)), "MCCertificateErrorDomain 9006", tt.want)
			})
		}
	}
}
