// Package interop lets the four real programs meet programs that others wrote: SCEP clients and another MDM server, OpenSSL,
// NSS, GnuPG and property list readers. Everything listens on the loopback interface.
package interop
