package mde

import (
	"encoding/base64"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/waxseal/waxseal/internal/xmltree"
)

// Security holds the credential of a request, which nobody has checked yet (windows.md 1.3). A signature with a
// certificate (AuthCertificate) is not read.
type Security struct {
	// HasUsername: a UsernameToken is there, as AuthOnPremise has it.
	HasUsername        bool
	Username, Password string
	// PasswordType is a URI that ends in #PasswordText.
	PasswordType string
	// HasToken: a BinarySecurityToken is there. Programs that enrol by themselves send one even where the policy is
	// AuthOnPremise.
	HasToken bool
	// Token is its text without white space, not decoded; see Tokens.
	Token          []byte
	TokenValueType string
}

// String keeps the credential out of logs.
func (Security) String() string { return "security header" }

func (r *reader) security(n *xmltree.Node) Security {
	var s Security
	if user := r.one(n, "UsernameToken"); user != nil {
		s.HasUsername, s.Username, s.Password = true, r.text(user, "Username"), r.text(user, "Password")
		if password := r.one(user, "Password"); password != nil {
			s.PasswordType = password.Attr("Type")
		}
	}
	if token := r.one(n, "BinarySecurityToken"); token != nil {
		s.HasToken, s.Token, s.TokenValueType = true, packed(token.Text()), token.Attr("ValueType")
	}
	return s
}

// packed is the text without any white space: base64 comes with line breaks.
func packed(text string) []byte { return []byte(strings.Join(strings.Fields(text), "")) }

// Tokens gives what the sign-in page may have handed out: the token as sent, base64-decoded once, and decoded twice,
// as far as the result is printable text. Microsoft's pages leave open whether the page or Windows encodes
// (windows.md 1.4).
func (s Security) Tokens() []string {
	var found []string
	for text := string(s.Token); printable(text); {
		if !slices.Contains(found, text) {
			found = append(found, text)
		}
		decoded, err := decodeBase64(text)
		if err != nil || len(found) == 3 {
			break
		}
		text = string(decoded)
	}
	return found
}

func printable(s string) bool {
	return s != "" && utf8.ValidString(s) && !strings.ContainsFunc(s, func(c rune) bool { return !unicode.IsPrint(c) })
}

// decodeBase64 does without the padding if it is missing.
func decodeBase64(text string) ([]byte, error) {
	return base64.RawStdEncoding.DecodeString(strings.TrimRight(text, "="))
}
