// Package apple says Waxseal's profiles as Apple configuration profiles (iOS, iPadOS, macOS).
//
// Plan works out the documents of one device, without secrets; Render turns one of them into the bytes of a
// configuration profile. ParseProfile reads profiles, CheckCustom judges uploaded ones and EnrollmentProfile writes the
// one that a device enrols with. Everything is a pure function of its arguments, and the same arguments give the same
// bytes.
//
// A Mac has two channels, and Plan is for one of them. What all its users share comes by the device channel, into the
// System keychain. Mail, identities and the preferences that tie them together belong to a user and come by the user
// channel, into the login keychain. A profile's PayloadScope says which, and identifiers keep the two apart.
//
// Identifiers are what ties revisions together. The top-level PayloadIdentifier of a document never changes, so a new
// revision replaces the old one. The top-level PayloadUUID is derived from the revision, so ProfileList proves it. UUIDs
// of payloads are derived without the revision, so that unchanged payloads stay in place, and S/MIME keys can name them.
// Source: https://developer.apple.com/documentation/devicemanagement/toplevel.
package apple
