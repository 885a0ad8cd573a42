package profiles

import "encoding/json"

// APIVersion is the only version of the admin's file format.
const APIVersion = "waxseal/v1"

// Kind names what an object is.
type Kind string

// The kinds of the file format. User and Assignment are not profiles; all others are.
const (
	KindUser                    Kind = "User"
	KindAssignment              Kind = "Assignment"
	KindTrustedCertificate      Kind = "TrustedCertificate"
	KindPKCSCertificate         Kind = "PKCSCertificate"
	KindPKCSImportedCertificate Kind = "PKCSImportedCertificate"
	KindSCEPCertificate         Kind = "SCEPCertificate"
	KindEmail                   Kind = "Email"
	KindCustom                  Kind = "Custom"
)

// IsProfile tells whether objects of this kind can be assigned.
func (k Kind) IsProfile() bool { return k != KindUser && k != KindAssignment }

// Object is one document of the admin's files: a kind, a name that is unique within Users, within Assignments and
// within all profiles together, and the spec that belongs to the kind.
type Object struct {
	APIVersion string `json:"apiVersion"`
	Kind       Kind   `json:"kind"`
	Name       string `json:"name"`
	// Spec is a pointer to the struct of the kind: *User, *Assignment, *TrustedCertificate, *PKCSCertificate,
	// *PKCSImportedCertificate, *SCEPCertificate, *Email or *Custom.
	Spec Spec `json:"spec"`
	// Source says where the object was written; nil if it did not come from a text file.
	Source *Source `json:"-"`
}

// Spec is the body of an object. The set is closed: only this package implements it.
type Spec interface {
	// kind is the Kind that the spec belongs to.
	kind() Kind
	// check reports what is wrong with the spec on its own, without other objects.
	check(r *report)
}

// UnmarshalJSON decodes strictly: an unknown kind or field is an error that names it.
func (o *Object) UnmarshalJSON(data []byte) error { return decodeObject(data, o) }

var _ json.Unmarshaler = (*Object)(nil)
