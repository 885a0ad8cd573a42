package csp

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"strconv"
	"strings"

	"github.com/waxseal/waxseal/internal/cms"
	"github.com/waxseal/waxseal/internal/pfx"
	"github.com/waxseal/waxseal/platforms/windows/syncml"
)

// Numbers of GetLastError after PFXImportCertStore (windows.md section 3.1): what the Status node shows.
const (
	winOK               = 0
	winInvalidData      = 13
	winInvalidPassword  = 86
	winInvalidParameter = 87
	winBadASN1          = 0x8009310B
	winNotSupported     = 0x80090029
	winBadData          = 0x80090005
)

// Where a key goes (KeyLocation and, for SCEP, KeyProtection).
const (
	keyTPM   = "1"
	keySoft  = "3"
	keyHello = "4"
)

// tpmBits is the longest RSA key that the simulated TPM takes.
const tpmBits = 2048

func encodeBase64(raw []byte) string { return base64.StdEncoding.EncodeToString(raw) }

// clientCertificates is ClientCertificateInstall (windows.md sections 3.1 and 3.2).
func clientCertificates() *provider {
	const id = "PFXCertInstall/*"
	rows := []row{
		{path: id, access: "ADGR", format: formatNode, atomic: true, gone: func(p *PC, l place) { p.disown(l.key()) }},
		{path: id + "/KeyLocation", access: "AGR", format: formatInt, atomic: true, check: between(1, 4)},
		{path: id + "/ContainerName", access: "AGR", format: formatChr, atomic: true, check: notEmpty},
		{path: id + "/PFXCertBlob", access: "AGR", format: formatBin, atomic: true, secret: true, write: takeBlob},
		{path: id + "/PFXCertPassword", access: "AGR", format: formatChr, atomic: true, secret: true},
		{path: id + "/PFXCertPasswordEncryptionType", access: "AGR", format: formatInt, initial: "0", atomic: true, check: between(0, 2)},
		{path: id + "/PFXCertPasswordEncryptionStore", access: "AGR", format: formatChr, atomic: true, check: notEmpty},
		{path: id + "/PFXKeyExportable", access: "AGR", format: formatBool, initial: "true", atomic: true},
		{path: id + "/Thumbprint", access: "G", format: formatChr},
		{path: id + "/Status", access: "G", format: formatInt},
	}
	return &provider{root: microsoft("ClientCertificateInstall"), scopes: "UD", rows: append(rows, scepRows()...)}
}

// takeBlob keeps the PFX for the import at the end of the command or Atomic. Microsoft's sample has the blob before the
// password, its text wants it last: both work.
func takeBlob(t *transaction, l place, value string) outcome {
	t.pc.store(l, value)
	t.imports = append(t.imports, pending{id: l.up(len(l.names) - 1), at: t.at})
	return outcome{}
}

// importPFX installs what the nodes of an id describe and sets its Status. File and password are not kept.
func (p *PC) importPFX(id place) outcome {
	number := p.installPFX(id)
	for _, secret := range []string{"PFXCertBlob", "PFXCertPassword"} {
		if l := id.down(secret); p.there(l) {
			p.store(l, "")
		}
	}
	p.store(id.down("Status"), decimal(number))
	if number != winOK {
		return fail(syncml.StatusFailed, hresult(number))
	}
	return outcome{}
}

// decimal is how a node of format int shows an error number.
func decimal(number uint32) string { return strconv.Itoa(int(int32(number))) }

// hresult is HRESULT_FROM_WIN32.
func hresult(number uint32) uint32 {
	if number < 0x10000 {
		return 0x80070000 | number
	}
	return number
}

func (p *PC) installPFX(id place) uint32 {
	location := p.text(id.down("KeyLocation"))
	if number := p.keyRules(id, location); number != winOK {
		return number
	}
	password, number := p.pfxPassword(id)
	if number != winOK {
		return number
	}
	blob, _ := oneLine(p.text(id.down("PFXCertBlob")))
	identity, number := p.openPFX(blob, password)
	if number != winOK {
		return number
	}
	key, number := p.importKey(identity.PrivateKey, location)
	if number != winOK {
		return number
	}
	p.own(id, entry{friendly: identity.FriendlyName, cert: identity.Certificate, key: key}, identity.Chain)
	p.store(id.down("Thumbprint"), thumbprint(identity.Certificate))
	return winOK
}

// keyRules checks what the nodes say of the key: KeyLocation is required, Hello needs a container, and only a software key
// can be exportable.
func (p *PC) keyRules(id place, location string) uint32 {
	_, said := p.state.nodes[id.down("PFXKeyExportable").key()]
	exportable := p.text(id.down("PFXKeyExportable")) == "true" && (said || p.cfg.Rules.StrictExportable)
	switch {
	case location == "",
		location == keyHello && p.text(id.down("ContainerName")) == "",
		location != keySoft && exportable:
		return winInvalidParameter
	case location == keyTPM && p.cfg.Rules.NoTPM:
		return winNotSupported
	}
	return winOK
}

// pfxPassword is the password in clear. Its bytes stand alone in the CMS: no length, no NUL, no UTF-16.
func (p *PC) pfxPassword(id place) (string, uint32) {
	sent := p.text(id.down("PFXCertPassword"))
	kind := p.text(id.down("PFXCertPasswordEncryptionType"))
	if kind == "0" {
		return sent, winOK
	}
	envelope, ok := oneLine(sent)
	if !ok {
		return "", winInvalidData
	}
	open := p.cfg.Decrypt
	if kind == "2" {
		store := id.scope + "/" + p.text(id.down("PFXCertPasswordEncryptionStore"))
		open = func(der []byte) ([]byte, error) { return p.decryptByStore(der, store) }
	}
	if open == nil {
		return "", winBadData
	}
	password, err := open(envelope)
	if err != nil {
		return "", winBadData
	}
	return string(password), winOK
}

// decryptByStore opens a CMS with whichever key of a store it is encrypted to.
func (p *PC) decryptByStore(der []byte, store string) ([]byte, error) {
	for _, c := range p.Certificates(store) {
		if c.Key == nil {
			continue
		}
		if out, err := cms.Decrypt(der, c.Cert, c.Key); !errors.Is(err, cms.ErrNoRecipient) {
			return out, err
		}
	}
	return nil, cms.ErrNoRecipient
}

// openPFX decodes a file; of several keys the first counts, since the node has one Thumbprint.
func (p *PC) openPFX(blob []byte, password string) (pfx.Identity, uint32) {
	if !p.knowsProtection(blob) {
		return pfx.Identity{}, winInvalidPassword // this is how old builds say it
	}
	all, err := pfx.Decode(blob, password)
	var unsupported *pfx.UnsupportedError
	switch {
	case err == nil:
		return all[0], winOK
	case errors.Is(err, pfx.ErrWrongPassword):
		return pfx.Identity{}, winInvalidPassword
	case errors.Is(err, pfx.ErrMalformed):
		return pfx.Identity{}, winBadASN1
	case errors.As(err, &unsupported):
		return pfx.Identity{}, winNotSupported
	}
	return pfx.Identity{}, winInvalidData
}

// knowsProtection looks for PBES2, which builds before 1709 do not know, and for PBMAC1, which none is known to read
// (windows.md section 4). The identifiers stand in clear in every file that uses them for its safes.
func (p *PC) knowsProtection(blob []byte) bool {
	pbes2 := oid(1, 2, 840, 113549, 1, 5, 13)
	pbmac1 := oid(1, 2, 840, 113549, 1, 5, 14)
	return !bytes.Contains(blob, pbmac1) && (p.cfg.build() >= buildModernPFX || !bytes.Contains(blob, pbes2))
}

func oid(arcs ...int) []byte {
	der, err := asn1.Marshal(asn1.ObjectIdentifier(arcs))
	if err != nil {
		return nil
	}
	return der
}

// importKey takes keys that Windows' key storage knows; the TPM only short RSA keys.
func (p *PC) importKey(private crypto.PrivateKey, location string) (crypto.Signer, uint32) {
	switch key := private.(type) {
	case *rsa.PrivateKey:
		if location == keyTPM && key.N.BitLen() > tpmBits {
			return nil, winNotSupported
		}
		return key, winOK
	case *ecdsa.PrivateKey:
		if name := key.Curve.Params().Name; strings.HasPrefix(name, "P-") && name != "P-224" {
			return key, winOK
		}
	}
	return nil, winNotSupported
}
