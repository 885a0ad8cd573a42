// Package apple says Waxseal's profiles as Apple configuration profiles (iOS, iPadOS, macOS).
//
// Plan works out the documents of one device, without secrets; Render turns one of them into the bytes of a
// configuration profile. ParseProfile reads profiles, CheckCustom judges uploaded ones and EnrollmentProfile writes the
// one that a device enrols with. Everything is a pure function of its arguments, and the same arguments give the same
// bytes.
//
// Identifiers are what ties revisions together. The top-level PayloadIdentifier of a document never changes, so a new
// revision replaces the old one. The top-level PayloadUUID is derived from the revision, so ProfileList proves it. UUIDs
// of payloads are derived without the revision, so that unchanged payloads stay in place, and S/MIME keys can name them.
// Source: https://developer.apple.com/documentation/devicemanagement/toplevel.
package apple
