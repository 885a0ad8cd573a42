// Package lint has zlint look at what the built-in CA makes: a certificate of each template and each kind of subject, the
// CAs', an OCSP responder's, and revocation lists. It is a module of its own, so that the project depends on no linter, and
// `make lint-certificates` runs it.
package lint

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zmap/zcrypto/x509"
	"github.com/zmap/zlint/v3"
	"github.com/zmap/zlint/v3/lint"
)

// expected are the findings that stay, each with its reason. What is not found any more must go from here.
var expected = []struct{ files, lint, reason string }{
	{"*.person.cer", "e_exactly_one_smime_policy", "a person's name without a registered organization fits no reserved policy, so none is claimed"},
	{"softca-root.cer", "e_ca_country_name_missing", "a private root: nobody has validated where its owner sits, and devices know it by its key"},
	{"softca-root.cer", "e_ca_organization_name_missing", "a private root: as above"},
	{"softca-root.cer", "w_root_ca_basic_constraints_path_len_constraint_field_present", "deliberate: nothing may be certified below the issuing CAs"},
}

// files has the connector's own tests write what it makes.
func files(t *testing.T) []string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("go", "test", "-count=1", "-run", "^TestWriteForLinter$", "./connector/internal/ca/softca")
	cmd.Dir = filepath.Join("..", "..")
	cmd.Env = append(os.Environ(), "WAXSEAL_LINT_FOLDER="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("making certificates: %v\n%s", err, out)
	}
	all, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(all) < 30 { // six templates, four subjects, three CAs, their lists
		t.Fatalf("%d files, %v", len(all), err)
	}
	return all
}

func TestZLint(t *testing.T) {
	met := make([]bool, len(expected))
	for _, path := range files(t) {
		name := filepath.Base(path)
		der, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for id, r := range results(t, name, der) {
			if r.Status >= lint.Warn && !known(name, id, met) {
				t.Errorf("%s: %s (%s) %s", name, id, r.Status, r.Details)
			}
		}
	}
	for i, e := range expected {
		if !met[i] {
			t.Errorf("%s: %s is not found any more: take it from the list", e.files, e.lint)
		}
	}
}

func known(file, id string, met []bool) bool {
	for i, e := range expected {
		if ok, _ := filepath.Match(e.files, file); ok && e.lint == id {
			met[i] = true
			return true
		}
	}
	return false
}

func results(t *testing.T, name string, der []byte) map[string]*lint.LintResult {
	t.Helper()
	if strings.HasSuffix(name, ".crl") {
		list, err := x509.ParseRevocationList(der)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return zlint.LintRevocationList(list).Results
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	found := zlint.LintCertificate(c).Results
	if strings.HasPrefix(name, "smime-") {
		missed(t, name, c)
		applied(t, name, found)
	}
	return found
}

// applied sees that the lints of the S/MIME baseline requirements had a look: they pass over certificates without a
// reserved policy.
func applied(t *testing.T, name string, found map[string]*lint.LintResult) {
	t.Helper()
	n := 0
	for id, r := range found {
		l := lint.GlobalRegistry().CertificateLints().ByName(id)
		if l != nil && l.Source == lint.CABFSMIMEBaselineRequirements && r.Status >= lint.Pass {
			n++
		}
	}
	if least := 20; n < least && !strings.Contains(name, ".person.") {
		t.Errorf("%s: %d lints of the S/MIME baseline requirements applied, not %d", name, n, least)
	}
}

// missed are rules of the S/MIME baseline requirements that zlint does not look for (sections 6.3.2, 7.1 and 7.1.4.2.1).
func missed(t *testing.T, name string, c *x509.Certificate) {
	t.Helper()
	if life := c.NotAfter.Sub(c.NotBefore); life > 825*24*time.Hour {
		t.Errorf("%s: valid for %s", name, life)
	}
	if n := c.SerialNumber.BitLen(); n < 64 {
		t.Errorf("%s: a serial number of %d bits", name, n)
	}
	if len(c.EmailAddresses) == 0 {
		t.Errorf("%s: no address among the alternative names", name)
	}
}
