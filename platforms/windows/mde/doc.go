// Package mde holds the messages by which a PC enrols: discovery (MS-MDE2), the certificate policy (MS-XCEP), the
// request for a certificate (MS-WSTEP), and the provisioning document that ends it. It is the server's side: requests
// are decoded, answers encoded. It knows nothing of transport, state or keys.
//
// Elements are found by their local names and in any order, since Windows' own requests differ in prefixes and order
// from build to build; values lose the white space around them. Every answer must be sent with a Content-Length and
// never chunked.
// Source: windows.md section 1; Microsoft Learn, "Mobile device enrollment", "On-premises authentication device
// enrollment" and "Federated authentication device enrollment".
package mde
