package companion

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/waxseal/waxseal/profiles"
)

// must gives an error that names the field and says what would be right.
func must(ok bool, field, rule string) error {
	if ok {
		return nil
	}
	return fmt.Errorf("%s must be %s", field, rule)
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// The forms of texts.
func isSHA256(field, s string) error {
	b, err := hex.DecodeString(s)
	return must(err == nil && len(b) == sha256.Size && s == strings.ToLower(s), field, "a SHA-256 in lower-case hex")
}

func optionalSHA256(field, s string) error {
	if s == "" {
		return nil
	}
	return isSHA256(field, s)
}

// isToken is for what one side makes and the other sends back: ids, revisions, tokens.
func isToken(field, s string, limit int) error {
	return must(s != "" && len(s) <= limit && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }),
		field, fmt.Sprintf("1 to %d printable ASCII characters without blanks", limit))
}

// isItemID is a token that can stand in a path.
func isItemID(field, s string) error {
	return first(isToken(field, s, 512), must(!strings.ContainsAny(s, `/\?#%`), field, `without / \ ? # and %`))
}

// isText is for what people see.
func isText(field, s string) error {
	return must(len(s) <= 256 && !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }), field,
		"at most 256 bytes of printable text")
}

// isWord is for names that may grow with newer apps.
func isWord(field, s string) error {
	bad := func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '_' }
	return must(s != "" && len(s) <= 64 && !strings.ContainsFunc(s, bad), field, "a word of a-z, 0-9 and _")
}

func isPackage(field, s string) error {
	return must(profiles.CheckPackage(s) == nil, field, "the package of an app such as "+profiles.PackageOutlook)
}

// isAlias is android.md AL-2.
func isAlias(field, s string) error {
	return first(isToken(field, s, 64), must(!strings.Contains(s, "/") && !strings.HasPrefix(s, "."), field,
		"without / and not begin with a dot"))
}

func isTime(field string, t time.Time) error { return must(!t.IsZero(), field, "a time") }

func isOneOf[T ~string](field string, value T, known ...T) error {
	names := make([]string, len(known))
	for i, k := range known {
		names[i] = string(k)
	}
	return must(slices.Contains(known, value), field, "one of "+strings.Join(names, ", "))
}

func within(field string, n, low, high int64) error {
	return must(n >= low && n <= high, field, fmt.Sprintf("%d to %d", low, high))
}

// isBinary bounds DER and the like, which others look into.
func isBinary(field string, b []byte, limit int) error {
	return must(len(b) > 0 && len(b) <= limit, field, fmt.Sprintf("1 to %d bytes in base64", limit))
}

// each checks the entries of a list; key tells them apart, and no two may be alike.
func each[T any](field string, list []T, key func(T) string, check func(at string, entry T) error) error {
	seen := map[string]bool{}
	for i, entry := range list {
		at := fmt.Sprintf("%s[%d]", field, i)
		if err := check(at, entry); err != nil {
			return err
		}
		if seen[key(entry)] {
			return fmt.Errorf("%s is in the list twice", at)
		}
		seen[key(entry)] = true
	}
	return nil
}

func same[T ~string](s T) string { return string(s) }

func eachText[T ~string](field string, list []T, check func(field, s string) error) error {
	return each(field, list, same[T], func(at string, s T) error { return check(at, string(s)) })
}

// sumIs tells whether the bytes have that SHA-256.
func sumIs(b []byte, sum string) bool {
	got := sha256.Sum256(b)
	return hex.EncodeToString(got[:]) == sum
}
