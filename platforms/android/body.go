package android

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/waxseal/waxseal/platforms"
	"github.com/waxseal/waxseal/platforms/android/companion"
	"github.com/waxseal/waxseal/profiles"
)

// Prefixes of identifiers.
const (
	prefixCA       = "ca:"
	prefixIdentity = "identity:"
	prefixGrant    = "grant:"
	prefixMail     = "mail:"
)

// Prefixes of aliases.
const (
	aliasEncryption = "smime-enc-"
	aliasSigning    = "smime-sign-"
)

// aliasLength is how much of a SHA-256, or of the id of a request, an alias holds.
const aliasLength = 12

// proofGranted is the proof of a grant, which is there or not.
const proofGranted = "granted"

// maxBody bounds the JSON of one item.
const maxBody = 256 << 10

// aliasOf names a certificate in the key chain. Users see it in pickers.
func aliasOf(prefix string, c profiles.Certificate) string {
	return prefix + c.SHA256[:min(aliasLength, len(c.SHA256))]
}

// finish encodes the item as the document's body and computes the revision from what makes the app do it again: the
// identifier and the content. What merely describes the item (what it depends on, whether users may pick it, what it is
// for) follows with the next state and is in no revision.
func finish(doc *platforms.Document, item companion.Item, content string) {
	item.ID, item.Op = doc.Identifier, companion.OpInstall
	doc.Body = encode(item)
	h := sha256.New()
	fmt.Fprintf(h, "waxseal/android/1\x00%s\x00%s", doc.Identifier, content)
	doc.Revision = hex.EncodeToString(h.Sum(nil))
}

// encode writes the JSON of texts, bytes, booleans and times of this era, which cannot fail.
func encode(v any) []byte {
	out, err := json.Marshal(v)
	if err != nil {
		panic("android: body of a document: " + err.Error())
	}
	return out
}

// decodeBody gives the item of a document, which is that of the identifier.
func decodeBody(doc platforms.Document) (companion.Item, error) {
	item, err := strict(doc.Body)
	if err != nil {
		return companion.Item{}, fmt.Errorf("document %s: body: %w", doc.ID, err)
	}
	item.Revision = doc.Revision
	if err := item.Check(); err != nil {
		return companion.Item{}, fmt.Errorf("document %s: body: %w", doc.ID, err)
	}
	if item.ID != doc.Identifier || item.ID != identifierOf(item) {
		return companion.Item{}, fmt.Errorf("document %s: body: it is not that of %s", doc.ID, doc.Identifier)
	}
	return item, nil
}

func strict(data []byte) (companion.Item, error) {
	var item companion.Item
	if len(data) > maxBody {
		return item, fmt.Errorf("%d bytes: at most %d are read", len(data), maxBody)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&item); err != nil {
		return item, errors.New("it is not the JSON of an item")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return item, errors.New("something follows the item")
	}
	return item, nil
}

// identifierOf names an item by its content.
func identifierOf(item companion.Item) string {
	switch item.Kind {
	case companion.KindCACert:
		return prefixCA + item.CACert.SHA256
	case companion.KindIdentity:
		return prefixIdentity + item.Identity.Alias
	case companion.KindGrant:
		return grantIdentifier(item.Grant.Package, item.Grant.Alias)
	case companion.KindMailConfig:
		return prefixMail + item.MailConfig.Package
	}
	return ""
}

func grantIdentifier(app, alias string) string { return prefixGrant + app + ":" + alias }

// Item is what the desired state shows of a document; its ID is the Identifier. current says of an identity whether it is
// the one to sign with, or to be written to. A document that must wait has no item to install.
func Item(doc platforms.Document, op companion.Op, current bool) (companion.Item, error) {
	if op == companion.OpRemove {
		item := RemovalItem(doc.Identifier)
		return item, item.Check()
	}
	if doc.Reason != "" {
		return companion.Item{}, fmt.Errorf("document %s waits: %s", doc.ID, doc.Reason)
	}
	item, err := decodeBody(doc)
	if err != nil {
		return companion.Item{}, err
	}
	if item.Op = op; item.Identity != nil {
		item.Identity.Current = current
	}
	return item, item.Check()
}

// RemovalItem takes away what stands under an identifier, however little is known of it. An identifier that Plan never
// gives has no Kind, and its Check fails.
func RemovalItem(identifier string) companion.Item {
	item := companion.Item{ID: identifier, Revision: companion.RevisionRemoval, Op: companion.OpRemove}
	prefix, rest, _ := strings.Cut(identifier, ":")
	switch prefix + ":" {
	case prefixCA:
		item.Kind, item.CACert = companion.KindCACert, &companion.CACert{SHA256: rest}
	case prefixIdentity:
		item.Kind, item.Identity = companion.KindIdentity, &companion.Identity{Alias: rest}
	case prefixGrant:
		app, alias, _ := strings.Cut(rest, ":")
		item.Kind, item.Grant = companion.KindGrant, &companion.Grant{Package: app, Alias: alias}
	case prefixMail:
		item.Kind, item.MailConfig = companion.KindMailConfig, &companion.MailConfig{Package: rest}
	}
	return item
}
