package windows

import (
	"slices"
	"strings"

	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/platforms/windows/syncml"
)

// InventoryURIs are the interior nodes whose children say which documents are on the PC. Not all exist on each PC: 404
// means that there is nothing. The ones under ./User can be read while the user is logged on.
func InventoryURIs() []string {
	return []string{userPFX, devicePFX, userSCEP, storeRoot, storeCA, admxInstall}
}

// InventoryFor are further nodes to read for those documents: what proves that a node holds the right thing.
func InventoryFor(docs []platforms.Document) []string {
	var uris []string
	for _, d := range docs {
		switch {
		case d.Reason != "":
		case isPFX(d.Identifier):
			uris = append(uris, d.Identifier+"/Thumbprint")
		case IsSCEP(d):
			uris = append(uris, d.Identifier+"/CertThumbprint")
		case strings.EqualFold(d.Identifier, admxApp):
			uris = append(uris, admxApp+"/Policy")
		}
	}
	return uris
}

func isPFX(identifier string) bool {
	parent, _ := cutLast(identifier)
	return strings.EqualFold(parent, userPFX) || strings.EqualFold(parent, devicePFX)
}

// Documents reads an inventory: uris maps the LocURI of each Get that answered 200 to its value, the result maps
// Document.Identifier to Document.Proof as the PC shows it. A node that is there without its proof has an empty one. A
// node of SCEP proves itself by its name; which certificate came by it, Thumbprints tells.
func Documents(uris map[string]string) map[string]string {
	v := fold(uris)
	out := map[string]string{}
	for _, store := range []string{storeRoot, storeCA} {
		for _, hash := range children(v, store) {
			out[store+"/"+strings.ToUpper(hash)] = strings.ToUpper(hash)
		}
	}
	for _, pfx := range []string{userPFX, devicePFX} {
		for _, id := range children(v, pfx) {
			identifier := pfx + "/" + strings.ToUpper(id)
			out[identifier] = strings.ToUpper(bare(v[strings.ToLower(identifier+"/Thumbprint")]))
		}
	}
	for _, id := range children(v, userSCEP) {
		out[userSCEP+"/"+strings.ToUpper(id)] = strings.ToUpper(id)
	}
	files := children(v, admxApp+"/Policy")
	if len(files) > 0 || slices.ContainsFunc(children(v, admxInstall), isOurApp) {
		// More than one file is none of our revisions; joined they prove nothing, so the document is delivered anew.
		out[admxApp] = strings.Join(files, "/")
	}
	return out
}

func isOurApp(name string) bool { return strings.EqualFold(name, appName) }

// children are the names below an interior node.
func children(folded map[string]string, uri string) []string {
	return syncml.Children(folded[strings.ToLower(uri)])
}

// Thumbprints are the SHA-1 fingerprints (upper case) of the certificates that the PC got for keys of its own. It shows
// none for a certificate that has expired, or whose key or chain is gone. Source: "ClientCertificateInstall CSP",
// CertThumbprint.
func Thumbprints(uris map[string]string) []string {
	v := fold(uris)
	var out []string
	for _, id := range children(v, userSCEP) {
		if print := strings.ToUpper(bare(v[strings.ToLower(userSCEP+"/"+id+"/CertThumbprint")])); print != "" {
			out = append(out, print)
		}
	}
	return out
}

// Certificates tells which certificates of the documents the PC shows, by SHA-256, true with a private key. A PFX node
// counts only if its thumbprint is that of the certificate. Those that the PC asked for itself are not among them: see
// Thumbprints.
func Certificates(docs []platforms.Document, uris map[string]string) map[string]bool {
	shown := Documents(uris)
	out := map[string]bool{}
	for _, d := range docs {
		if proof, there := shown[d.Identifier]; !there || proof != d.Proof || IsSCEP(d) {
			continue
		}
		for _, sum := range d.Certificates {
			out[sum] = out[sum] || isPFX(d.Identifier)
		}
	}
	return out
}

// Facts are what a PC says of itself.
type Facts struct{ Name, Model, OSVersion, SerialNumber string }

// Nodes of facts. Source: "DevDetail CSP", "DevInfo CSP".
const (
	factName   = "./DevDetail/Ext/Microsoft/DeviceName"
	factModel  = "./DevInfo/Mod"
	factOS     = "./DevDetail/SwV"
	factSerial = "./DevDetail/Ext/Microsoft/SMBIOSSerialNumber" // since 1809
)

// FactURIs are the nodes that ReadFacts reads.
func FactURIs() []string { return []string{factName, factModel, factOS, factSerial} }

// ReadFacts takes the facts from the values of FactURIs; one that the PC does not know stays empty.
func ReadFacts(values map[string]string) Facts {
	v := fold(values)
	get := func(uri string) string { return strings.TrimSpace(v[strings.ToLower(uri)]) }
	return Facts{Name: get(factName), Model: get(factModel), OSVersion: get(factOS), SerialNumber: get(factSerial)}
}
