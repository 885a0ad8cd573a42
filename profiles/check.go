package profiles

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Known is what exists besides the objects that are checked.
type Known struct {
	Profiles map[string]Kind
	// Purposes are the intended purposes of the PKCSImportedCertificate profiles among Profiles; one that is missing is
	// not checked.
	Purposes map[string]Purpose
	// CertificateAuthorities are the CAs that connectors offer; nil means that they are not known (offline) and that
	// names of CAs are not checked.
	CertificateAuthorities map[string]bool
	Users, Groups, Devices map[string]bool
	UserAddresses          map[string]string // lower-cased current address → UPN
}

// Check reports everything that is wrong with the objects at once: each on its own, their names, and what they refer
// to among themselves and in known. An unknown profile or CA is a fault; an unknown user, group or device is a warning,
// because it may come later.
func Check(objects []Object, known Known) (faults, warnings Faults) {
	scope := newScope(objects, known)
	for i := range objects {
		r := newReport(&objects[i], i)
		scope.object(r, &objects[i])
		faults = append(faults, r.faults...)
		warnings = append(warnings, r.warnings...)
	}
	return faults, warnings
}

// scope is what references may point to: the objects that are checked on top of what is known.
type scope struct {
	known     Known
	profiles  map[string]Kind
	purposes  map[string]Purpose
	users     map[string]bool // lower-cased UPN
	given     map[string]bool // lower-cased UPN of the users that are checked
	groups    map[string]bool
	seen      map[string]bool   // objects met so far, by name space
	addresses map[string]string // lower-cased address → UPN
}

func newScope(objects []Object, known Known) *scope {
	s := &scope{known: known, profiles: map[string]Kind{}, purposes: map[string]Purpose{}, users: map[string]bool{},
		given: map[string]bool{}, groups: map[string]bool{}, seen: map[string]bool{}, addresses: map[string]string{}}
	maps.Copy(s.profiles, known.Profiles)
	maps.Copy(s.purposes, known.Purposes)
	maps.Copy(s.groups, known.Groups)
	for upn := range known.Users {
		s.users[strings.ToLower(upn)] = true
	}
	for _, o := range objects {
		s.given[strings.ToLower(o.Name)] = s.given[strings.ToLower(o.Name)] || o.Kind == KindUser
	}
	for address, upn := range known.UserAddresses {
		// A user that is checked brings its new addresses; the known ones no longer count.
		if !s.given[strings.ToLower(upn)] {
			s.addresses[strings.ToLower(address)] = upn
		}
	}
	for i := range objects {
		s.add(&objects[i])
	}
	return s
}

// add makes an object visible to the references of the others.
func (s *scope) add(o *Object) {
	switch spec := o.Spec.(type) {
	case *User:
		s.users[strings.ToLower(o.Name)] = true
		for _, g := range spec.Groups {
			s.groups[g] = true
		}
		for _, a := range spec.Addresses {
			if key := strings.ToLower(a); s.addresses[key] == "" {
				s.addresses[key] = o.Name
			}
		}
		return
	case *Assignment:
		return
	case *PKCSImportedCertificate:
		s.purposes[o.Name] = spec.IntendedPurpose
	}
	s.profiles[o.Name] = o.Kind
}

func (s *scope) object(r *report, o *Object) {
	checkName(r, o)
	s.unique(r, o)
	if o.Spec == nil {
		r.fault("spec", "is missing")
		return
	}
	if o.Spec.kind() != o.Kind {
		r.fault("spec", "belongs to kind %s", o.Spec.kind())
		return
	}
	o.Spec.check(r)
	s.references(r, o)
}

// unique faults a second object of one name, and a profile that would change its kind.
func (s *scope) unique(r *report, o *Object) {
	space, name := "profile", o.Name
	switch o.Kind {
	case KindUser:
		space, name = "User", strings.ToLower(name)
	case KindAssignment:
		space = "Assignment"
	}
	key := space + "\x00" + name
	if s.seen[key] {
		r.fault("name", "%s %q is given twice; each name is used once", space, o.Name)
	}
	s.seen[key] = true
	if kind, ok := s.known.Profiles[o.Name]; ok && o.Kind.IsProfile() && kind != o.Kind {
		r.fault("kind", "profile %q exists as %s and cannot become %s; choose another name", o.Name, kind, o.Kind)
	}
}

func (s *scope) references(r *report, o *Object) {
	switch spec := o.Spec.(type) {
	case *User:
		s.owners(r, o.Name, spec)
	case *Assignment:
		s.assignment(r, spec)
	case *TrustedCertificate:
		s.authority(r, spec.CertificateAuthority)
	case *PKCSCertificate:
		s.authority(r, spec.CertificateAuthority)
	case *SCEPCertificate:
		s.authority(r, spec.CertificateAuthority)
	case *Email:
		s.email(r, spec)
	}
}

// owners faults an address that belongs to two users; certificates could not be told apart at import.
func (s *scope) owners(r *report, upn string, u *User) {
	for i, a := range u.Addresses {
		if owner := s.addresses[strings.ToLower(a)]; !strings.EqualFold(owner, upn) && owner != "" {
			r.fault(fmt.Sprintf("spec.addresses[%d]", i), "%s belongs to user %s already; an address has one user", a, owner)
		}
	}
	for i, a := range u.FormerAddresses {
		if owner := s.addresses[strings.ToLower(a)]; owner != "" && !strings.EqualFold(owner, upn) {
			r.warn(fmt.Sprintf("spec.formerAddresses[%d]", i), "%s is now an address of user %s; its old certificates are accepted for both", a, owner)
		}
	}
}

func (s *scope) authority(r *report, name string) {
	if s.known.CertificateAuthorities == nil || name == "" || s.known.CertificateAuthorities[name] {
		return
	}
	names := slices.Sorted(maps.Keys(s.known.CertificateAuthorities))
	if len(names) == 0 {
		r.fault("spec.certificateAuthority", "no connector offers a CA %q; none has registered one yet", name)
		return
	}
	r.fault("spec.certificateAuthority", "no connector offers a CA %q; known are %s", name, strings.Join(names, ", "))
}

func (s *scope) assignment(r *report, a *Assignment) {
	for i, name := range a.Profiles {
		if _, ok := s.profiles[name]; !ok && name != "" {
			r.fault(fmt.Sprintf("spec.profiles[%d]", i), "there is no profile %q", name)
		}
	}
	s.targets(r, "spec.include", a.Include)
	s.targets(r, "spec.exclude", a.Exclude)
}

// targets warns of users, groups and devices that nobody knows yet.
func (s *scope) targets(r *report, field string, targets []Target) {
	for i, t := range targets {
		at := fmt.Sprintf("%s[%d]", field, i)
		switch {
		case t.User != "" && !s.users[strings.ToLower(t.User)]:
			r.warn(at+".user", "user %q is not known yet", t.User)
		case t.Group != "" && !s.groups[t.Group]:
			r.warn(at+".group", "group %q has no members yet", t.Group)
		case t.Device != "" && !s.known.Devices[t.Device]:
			r.warn(at+".device", "device %q is not known yet", t.Device)
		}
	}
}

// profile gives the kind of a referenced profile; an unknown one is a fault.
func (s *scope) profile(r *report, field, name string) (Kind, bool) {
	kind, ok := s.profiles[name]
	if name != "" && !ok {
		r.fault(field, "there is no profile %q", name)
	}
	return kind, ok && name != ""
}

func (s *scope) email(r *report, e *Email) {
	if e.Exchange != nil {
		s.identity(r, e.Exchange.IdentityCertificate)
	}
	if e.SMIME == nil {
		return
	}
	s.signing(r, e.SMIME.Signing.Certificate)
	s.encryption(r, &e.SMIME.Encryption)
}

func (s *scope) identity(r *report, name string) {
	const field = "spec.exchange.identityCertificate"
	kind, ok := s.profile(r, field, name)
	if ok && kind != KindPKCSCertificate && kind != KindSCEPCertificate {
		r.fault(field, "profile %q is a %s; signing in takes a PKCSCertificate or a SCEPCertificate", name, kind)
	}
}

func (s *scope) signing(r *report, name string) {
	const field = "spec.smime.signing.certificate"
	kind, ok := s.profile(r, field, name)
	if !ok {
		return
	}
	switch kind {
	case KindPKCSCertificate, KindSCEPCertificate:
	case KindPKCSImportedCertificate:
		if p := s.purposes[name]; p != "" && p != PurposeSMIMESigning {
			r.fault(field, "profile %q has the intended purpose %s; signing takes %s", name, p, PurposeSMIMESigning)
		}
	default:
		r.fault(field, "profile %q is a %s; signing takes a PKCSCertificate, a SCEPCertificate or a PKCSImportedCertificate for %s", name, kind, PurposeSMIMESigning)
	}
}

func (s *scope) encryption(r *report, e *SMIMEEncryption) {
	const field = "spec.smime.encryption.certificate"
	kind, ok := s.profile(r, field, e.Certificate)
	if !ok {
		return
	}
	switch kind {
	case KindPKCSImportedCertificate:
		if p := s.purposes[e.Certificate]; p != "" && p != PurposeSMIMEEncryption {
			r.fault(field, "profile %q has the intended purpose %s; encryption takes %s", e.Certificate, p, PurposeSMIMEEncryption)
		}
	case KindPKCSCertificate, KindSCEPCertificate:
		if !e.AllowPerDeviceCertificate {
			r.fault(field, "profile %q (%s) makes another key for every device, so mail encrypted to one device cannot be read on the user's others, "+
				"nor after that device is gone; use a PKCSImportedCertificate for %s, or set spec.smime.encryption.allowPerDeviceCertificate: true if that is meant",
				e.Certificate, kind, PurposeSMIMEEncryption)
		}
	default:
		r.fault(field, "profile %q is a %s; encryption takes a PKCSImportedCertificate for %s", e.Certificate, kind, PurposeSMIMEEncryption)
	}
}
