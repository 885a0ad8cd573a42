// Package windows says Waxseal's profiles as nodes of Windows' configuration service providers (CSPs).
//
// Plan works out the documents of one PC, without secrets; each is one node set, so that one certificate can come and go
// without another. Render fills in the secrets of one document, Install makes the SyncML commands of it, and Judge looks
// at what the PC answers when it is asked whether the import worked: a status 200 of the command alone proves nothing.
// Documents and Certificates read an inventory. Everything is a pure function of its arguments.
//
// The Identifier of a document is the LocURI of its topmost node. That of a certificate ends in its SHA-1, which makes
// Identifier and Proof of a certificate fixed: another certificate is another node. A document whose certificate is
// renewed therefore keeps its ID and changes its Identifier, and the old node should go after the new one is there.
//
// A certificate that the PC asks for itself (SCEP) has a node named after the request. RenderSCEP fills in the challenge,
// ReadAsked tells how far the PC has come, and Thumbprints which certificates it got.
//
// Source: Microsoft Learn, "ClientCertificateInstall CSP", "RootCATrustedCertificates CSP", "Policy CSP", "Win32 and
// Desktop Bridge app ADMX policy ingestion".
package windows
