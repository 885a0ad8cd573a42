// Package android says Waxseal's profiles as items of the companion app (package companion), one for each certificate, for
// each key that a mail app may use and for each mail app's settings, so that one can come and go without another.
//
// Plan works out the documents of one device, without secrets. Item is what the desired state shows of a document, and
// Render the secret of one, encrypted to the device: the key as PKCS #8 with its chain, since no PKCS#12 is read by all
// versions of Android (android.md P12-1). Documents and Certificates read an inventory. Everything is a pure function of
// its arguments.
//
// The Identifier of a document is the id of its item and says all that removal needs:
//
//	ca:<SHA-256>              proof: the SHA-256
//	identity:<alias>          proof: the certificate's SHA-256, or the alias where the device makes the key
//	grant:<package>:<alias>   proof: "granted"
//	mail:<package>            proof: the revision
//
// An alias holds the start of a certificate's SHA-256 and is never used for another one (AL-4), so a renewed certificate
// keeps its document's ID and changes the Identifier, and the old item should go after the new one is there. Where the device
// makes the key, the certificate is not known beforehand, and the alias holds the start of the request's id instead: as long
// as the same certificate is wanted, it stays, and another one has another.
//
// Source: developer.android.com, "DevicePolicyManager"; android.md sections 3 to 6 and 8.
package android
