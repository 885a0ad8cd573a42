package windows

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
)

// Check is a value that the PC must show once a document is installed, to be read in the message after the one that
// installs: inside an Atomic a Get is not allowed. Letter case does not count.
type Check struct {
	LocURI string `json:"locURI"`
	Want   string `json:"want"`
}

// Judge says why what the PC answered does not prove the installation, or nil. values maps LocURIs to the values of the
// Gets that answered 200; what is missing was not found.
func Judge(checks []Check, values map[string]string) error {
	v := fold(values)
	for _, c := range checks {
		got, found := v[strings.ToLower(c.LocURI)]
		if err := judge(c, got, found); err != nil {
			return err
		}
	}
	return nil
}

func judge(c Check, got string, found bool) error {
	if found && bare(got) == bare(c.Want) {
		return nil
	}
	_, leaf := cutLast(c.LocURI)
	switch {
	case !found:
		return fmt.Errorf("the PC does not show %s (404): nothing was installed, or it is gone again", c.LocURI)
	case leaf == "Status":
		return fmt.Errorf("the PC refused the PFX: %s", importStatus(got))
	case leaf == "Thumbprint" && bare(got) == "":
		return fmt.Errorf("the PC has no certificate where %s was delivered", c.Want)
	case leaf == "Thumbprint":
		return fmt.Errorf("the PC has another certificate (%s) than the one delivered (%s)", clip(strings.ToUpper(bare(got))), c.Want)
	case leaf == "EncodedCertificate":
		return fmt.Errorf("the PC shows another CA certificate at %s than the one delivered", c.LocURI)
	}
	return fmt.Errorf("the PC has %q at %s, wanted is %q", clip(got), c.LocURI, c.Want)
}

// bare is a value for comparison: lower case, without blanks, line ends and the invisible marks of trap 4.
func bare(s string) string {
	return strings.ToLower(strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) || unicode.Is(unicode.Cf, r) {
			return -1
		}
		return r
	}, s))
}

func importStatus(got string) string {
	n, err := strconv.ParseInt(strings.TrimSpace(got), 0, 64)
	if err != nil {
		return fmt.Sprintf("its status is %q", clip(got))
	}
	return ImportMeaning(n)
}

// ImportMeaning puts the Status of a PFX import, GetLastError after PFXImportCertStore, into words. The same error comes
// as a Win32 code (86), as its HRESULT (0x80070056), and an HRESULT comes as a positive or a negative number. Source:
// "ClientCertificateInstall CSP", winerror.h; windows.md 3.1.
func ImportMeaning(status int64) string {
	code := uint32(status)
	number := strconv.FormatUint(uint64(code), 10)
	if code > 0xffff {
		number = fmt.Sprintf("0x%08X", code)
	}
	if code>>16 == 0x8007 { // HRESULT_FROM_WIN32
		code &= 0xffff
	}
	return meaning(code) + " (" + number + ")"
}

func meaning(code uint32) string {
	switch code {
	case 0:
		return "imported"
	case 5:
		return "access denied"
	case 13:
		return "invalid data: the file is damaged or not a PFX"
	case 86: // builds before 16299 say this of AES as well
		return "wrong password or unsupported algorithm"
	case 0x8009310b:
		return "bad ASN.1: the file is damaged or not a PFX"
	case 0x80090029:
		return "not supported: the key storage refuses this key"
	case 0x80090016:
		return "the key set is missing"
	}
	return "the import failed"
}

// fold maps by lower-case LocURI, since names of nodes are case-insensitive on Windows.
func fold(values map[string]string) map[string]string {
	out := make(map[string]string, len(values))
	for uri, v := range values {
		out[strings.ToLower(strings.TrimSpace(uri))] = v
	}
	return out
}

// cutLast cuts the last segment off a LocURI.
func cutLast(uri string) (parent, leaf string) {
	i := strings.LastIndexByte(uri, '/')
	if i < 0 {
		return "", uri
	}
	return uri[:i], uri[i+1:]
}
