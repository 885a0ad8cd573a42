// Package profiles says WHAT is delivered: the objects an admin writes (users, profiles, assignments), the variables
// in them, their validation, and which of them apply to a device. It knows the JSON form only (internal/manifest turns
// YAML into it), does no I/O and uses nothing beyond the standard library.
package profiles
