package profiles

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxName is the longest object name, in characters.
const maxName = 128

func checkName(r *report, o *Object) {
	switch {
	case o.Name == "":
		r.fault("name", "is missing")
	case utf8.RuneCountInString(o.Name) > maxName:
		r.fault("name", "has more than %d characters", maxName)
	case strings.TrimSpace(o.Name) != o.Name:
		r.fault("name", "must not begin or end with a space")
	case checkPrintable(o.Name) != nil:
		r.fault("name", "%s", checkPrintable(o.Name))
	case o.Kind == KindUser && CheckAddress(o.Name) != nil:
		r.fault("name", "%q is not a UPN; write it like alice@corp.example", o.Name)
	}
}

// checkPrintable refuses control characters, invisible formatting and broken UTF-8, which could make two names look
// alike or forge lines in logs.
func checkPrintable(s string) error {
	if !utf8.ValidString(s) {
		return errors.New("is not UTF-8")
	}
	if i := strings.IndexFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }); i >= 0 {
		return fmt.Errorf("has a character that cannot be printed (%U)", []rune(s[i:])[0])
	}
	return nil
}

// CheckAddress reports what is wrong with a mail address (RFC 5321: a dot-string, "@" and a host name; quoted local
// parts are not supported by mail programs in certificates and are refused).
func CheckAddress(address string) error {
	local, domain, found := strings.Cut(address, "@")
	switch {
	case !found || local == "" || domain == "":
		return fmt.Errorf("%q is not a mail address; write it like alice@corp.example", address)
	case len(address) > 254 || len(local) > 64:
		return fmt.Errorf("mail address %q is too long (at most 64 characters before the @ and 254 in all)", address)
	case checkPrintable(address) != nil || strings.ContainsAny(local, ` "(),:;<>[\]`):
		return fmt.Errorf("mail address %q has a character that is not allowed", address)
	case checkHostName(domain) != nil:
		return fmt.Errorf("mail address %q has no valid domain after the @", address)
	}
	return nil
}

// checkHost accepts a host name or an IP address, without scheme, port or path.
func checkHost(host string) error {
	if _, err := netip.ParseAddr(host); err == nil {
		return nil
	}
	return checkHostName(host)
}

// checkHostName follows RFC 1123 and lets letters of other scripts pass (IDN).
func checkHostName(host string) error {
	if host == "" {
		return errors.New("is missing")
	}
	wrong := fmt.Errorf("%q is not a host name; write it like mail.corp.example, without scheme, port and path", host)
	if len(host) > 253 {
		return wrong
	}
	for label := range strings.SplitSeq(host, ".") {
		bad := func(r rune) bool {
			return r != '-' && r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.IsMark(r)
		}
		if label == "" || len(label) > 63 || label[0] == '-' || strings.HasSuffix(label, "-") || strings.ContainsFunc(label, bad) {
			return wrong
		}
	}
	return nil
}

func (*User) kind() Kind { return KindUser }

func (u *User) check(r *report) {
	if err := checkPrintable(u.DisplayName); err != nil {
		r.fault("spec.displayName", "%s", err)
	}
	if len(u.Addresses) == 0 {
		r.fault("spec.addresses", "is missing; a user has one or more mail addresses, the primary one first")
	}
	seen := map[string]bool{}
	checkAddresses(r, "spec.addresses", u.Addresses, seen)
	checkAddresses(r, "spec.formerAddresses", u.FormerAddresses, seen)
	checkNames(r, "spec.groups", u.Groups)
	u.checkDirectory(r)
}

// checkDirectory checks what is in the user's certificates and the directory knows.
func (u *User) checkDirectory(r *report) {
	if err := checkPrintable(u.OnPremisesDistinguishedName); err != nil {
		r.fault("spec.onPremisesDistinguishedName", "%s", err)
	}
	if err := checkPrintable(u.Department); err != nil {
		r.fault("spec.department", "%s", err)
	}
	if sid := u.OnPremisesSecurityIdentifier; sid != "" && !isSID(sid) {
		r.fault("spec.onPremisesSecurityIdentifier", "%q is no security identifier; write it like S-1-5-21-1004336348-1177238915-682003330-512", clipName(sid))
	}
}

// isSID knows the text form of a security identifier (MS-DTYP section 2.4.2.1).
func isSID(s string) bool {
	rest, ok := strings.CutPrefix(s, "S-1-")
	parts := strings.Split(rest, "-")
	return ok && len(parts) >= 2 && len(parts) <= 16 && !slices.ContainsFunc(parts, func(p string) bool {
		_, err := strconv.ParseUint(p, 10, 48)
		return err != nil
	})
}

func checkAddresses(r *report, field string, addresses []string, seen map[string]bool) {
	for i, a := range addresses {
		at := fmt.Sprintf("%s[%d]", field, i)
		if err := CheckAddress(a); err != nil {
			r.fault(at, "%s", err)
		}
		if seen[strings.ToLower(a)] {
			r.fault(at, "%s is given twice; an address is either current or former", a)
		}
		seen[strings.ToLower(a)] = true
	}
}

// checkNames faults empty, unprintable and repeated names of a list.
func checkNames(r *report, field string, names []string) {
	for i, name := range names {
		at := fmt.Sprintf("%s[%d]", field, i)
		if name == "" {
			r.fault(at, "is empty")
		} else if err := checkPrintable(name); err != nil {
			r.fault(at, "%s", err)
		}
		if slices.Contains(names[:i], name) {
			r.fault(at, "%q is given twice", name)
		}
	}
}

func (*Assignment) kind() Kind { return KindAssignment }

func (a *Assignment) check(r *report) {
	if len(a.Profiles) == 0 {
		r.fault("spec.profiles", "is missing; name one or more profiles")
	}
	checkNames(r, "spec.profiles", a.Profiles)
	if len(a.Include) == 0 {
		r.fault("spec.include", "is missing; name one or more of user, group, device or everybody: true")
	}
	checkTargets(r, "spec.include", a.Include)
	checkTargets(r, "spec.exclude", a.Exclude)
}

func checkTargets(r *report, field string, targets []Target) {
	for i, t := range targets {
		n := 0
		for _, set := range []bool{t.User != "", t.Group != "", t.Device != "", t.Everybody} {
			if set {
				n++
			}
		}
		if n != 1 {
			r.fault(fmt.Sprintf("%s[%d]", field, i), "must have exactly one of user, group, device or everybody: true")
		}
	}
}

func (*Custom) kind() Kind { return KindCustom }

func (c *Custom) check(r *report) {
	if len(c.Platforms) == 0 {
		r.fault("spec.platforms", "is missing; use ios, macos or both")
	}
	for i, p := range c.Platforms {
		oneOf(r, fmt.Sprintf("spec.platforms[%d]", i), p, IOS, MacOS)
		if slices.Contains(c.Platforms[:i], p) {
			r.fault(fmt.Sprintf("spec.platforms[%d]", i), "%q is given twice", p)
		}
	}
	if len(c.Content) == 0 {
		r.fault("spec.file", "is missing; name a .mobileconfig beside this file")
	}
}
