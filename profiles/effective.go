package profiles

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
)

// Subject is whom profiles are assigned to: a device and its owner.
type Subject struct {
	UPN      string
	Groups   []string
	DeviceID string
}

// Effective gives the profiles that apply to a subject, sorted by kind and name. A profile applies if some assignment
// of it includes the subject and no assignment of it excludes the subject. A certificate profile that an effective
// Email profile names is not implied: unless it is assigned too, the Email profile waits.
func Effective(objects []Object, s Subject) []Object {
	included, excluded := map[string]bool{}, map[string]bool{}
	for _, o := range objects {
		if a, ok := o.Spec.(*Assignment); ok {
			mark(included, a.Profiles, a.Include, s)
			mark(excluded, a.Profiles, a.Exclude, s)
		}
	}
	var effective []Object
	for _, o := range objects {
		if o.Kind.IsProfile() && included[o.Name] && !excluded[o.Name] {
			effective = append(effective, o)
		}
	}
	slices.SortFunc(effective, func(a, b Object) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name))
	})
	return effective
}

// mark notes the profiles if one of the targets covers the subject.
func mark(marked map[string]bool, profiles []string, targets []Target, s Subject) {
	if !slices.ContainsFunc(targets, s.in) {
		return
	}
	for _, p := range profiles {
		marked[p] = true
	}
}

// in tells whether a target covers the subject. UPNs and device ids are compared without regard to case.
func (s Subject) in(t Target) bool {
	switch {
	case t.Everybody:
		return true
	case t.User != "":
		return strings.EqualFold(t.User, s.UPN)
	case t.Group != "":
		return slices.Contains(s.Groups, t.Group)
	}
	return t.Device != "" && strings.EqualFold(t.Device, s.DeviceID)
}

// Digest is the SHA-256 of what the object says, in hex. The names of files whose content is inside do not count.
func (o Object) Digest() string {
	switch spec := o.Spec.(type) {
	case *TrustedCertificate:
		bare := *spec
		bare.CertificateFile = ""
		o.Spec = &bare
	case *Custom:
		bare := *spec
		bare.File = ""
		o.Spec = &bare
	}
	// Marshalling structs of strings, numbers and bytes has a fixed order of fields and cannot fail.
	canonical, _ := json.Marshal(o)
	sum := sha256.Sum256(canonical)
	return hex.EncodeToString(sum[:])
}
