package manifest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/waxseal/waxseal/profiles"
)

// Bounds of the input.
const (
	maxManifest  = 4 << 20 // bytes of one YAML or JSON file
	maxSide      = 1 << 20 // bytes of a file beside the manifest
	maxDocuments = 10_000  // in one file
)

// Load reads files and folders, a folder standing for its *.yaml, *.yml and *.json files in the order of their names.
// It reports all faults of reading at once and returns the objects whose kind is known even if they have faults, so
// that profiles.Check can add what else is wrong.
func Load(paths ...string) ([]profiles.Object, profiles.Faults) {
	var l loader
	for _, p := range paths {
		l.path(p)
	}
	return l.objects, l.faults
}

// LoadFS reads the named files of a file system, as Load does; all names are slash-separated and inside it.
func LoadFS(fsys fs.FS, names ...string) ([]profiles.Object, profiles.Faults) {
	var l loader
	for _, name := range names {
		l.name(fsys, name, name)
	}
	return l.objects, l.faults
}

// loader collects objects and faults over all files.
type loader struct {
	objects []profiles.Object
	faults  profiles.Faults
}

func (l *loader) fault(where, format string, args ...any) {
	l.faults = append(l.faults, profiles.Fault{Path: where, Message: fmt.Sprintf(format, args...)})
}

// path reads a file or folder of the operating system through os.Root, which no link leads out of.
func (l *loader) path(p string) {
	info, err := os.Stat(p)
	if err != nil {
		l.fault(p, "%s", cause(err))
		return
	}
	folder, name := p, "."
	if !info.IsDir() {
		folder, name = filepath.Dir(p), filepath.Base(p)
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		l.fault(p, "%s", cause(err))
		return
	}
	defer root.Close()
	l.name(root.FS(), name, p)
}

// name reads a file or folder of a file system; shown is how faults call it.
func (l *loader) name(fsys fs.FS, name, shown string) {
	info, err := fs.Stat(fsys, name)
	switch {
	case err != nil:
		l.fault(shown, "%s", cause(err))
	case info.IsDir():
		l.folder(fsys, name, shown)
	default:
		l.file(fsys, name, shown)
	}
}

func (l *loader) folder(fsys fs.FS, name, shown string) {
	entries, err := fs.ReadDir(fsys, name)
	if err != nil {
		l.fault(shown, "%s", cause(err))
		return
	}
	found := false
	for _, entry := range entries {
		if !entry.IsDir() && slices.Contains([]string{".yaml", ".yml", ".json"}, path.Ext(entry.Name())) {
			found = true
			l.file(fsys, path.Join(name, entry.Name()), filepath.Join(shown, entry.Name()))
		}
	}
	if !found {
		l.fault(shown, "holds no .yaml, .yml or .json file")
	}
}

func (l *loader) file(fsys fs.FS, name, shown string) {
	data, err := readCapped(fsys, name, maxManifest)
	if err != nil {
		l.fault(shown, "%s", err)
		return
	}
	documents, faults := parse(data, path.Ext(name) == ".json")
	for _, err := range faults {
		l.syntax(shown, err)
	}
	for i, document := range documents {
		source := &profiles.Source{File: shown, Start: document.start, Fields: document.fields}
		object, faults := profiles.DecodeObject(document.json, i, source)
		l.faults = append(l.faults, faults...)
		if object.Spec == nil {
			continue
		}
		l.sideFiles(fsys, path.Dir(name), &object)
		l.objects = append(l.objects, object)
	}
}

// syntax reports why a file is not readable YAML.
func (l *loader) syntax(shown string, err error) {
	var s *syntaxError
	if errors.As(err, &s) && s.at.Line > 0 {
		shown = fmt.Sprintf("%s:%d:%d", shown, s.at.Line, s.at.Column)
	}
	l.fault(shown, "%s", err)
}

// sideFiles reads the files that an object names into it.
func (l *loader) sideFiles(fsys fs.FS, folder string, o *profiles.Object) {
	switch spec := o.Spec.(type) {
	case *profiles.TrustedCertificate:
		l.sideFile(fsys, folder, o, "spec.certificateFile", spec.CertificateFile, &spec.Certificate, profiles.ParseTrustedCertificate)
	case *profiles.Custom:
		l.sideFile(fsys, folder, o, "spec.file", spec.File, &spec.Content, notEmpty)
	}
}

// sideFile reads one file, unless none is named; parse checks it before it becomes part of the object, so that a
// private key that was put there by mistake goes no further.
func (l *loader) sideFile(fsys fs.FS, folder string, o *profiles.Object, field, name string, into *[]byte, parse func([]byte) ([]byte, error)) {
	if name == "" {
		return
	}
	content, err := readSide(fsys, folder, name)
	if err == nil && len(*into) > 0 {
		err = errors.New("must not stand beside the content itself")
	}
	if err == nil {
		content, err = parse(content)
	}
	if err != nil {
		where := fmt.Sprintf("%s %s %s %s", o.Source.Locate(field), o.Kind, o.Name, field)
		l.fault(where, "%q: %s", name, err)
		o.Source.Report(field)
		return
	}
	*into = content
}

func notEmpty(content []byte) ([]byte, error) {
	if len(content) == 0 {
		return nil, errors.New("is empty")
	}
	return content, nil
}

// readSide reads a file beside the manifest or in a folder below it.
func readSide(fsys fs.FS, folder, name string) ([]byte, error) {
	if !fs.ValidPath(name) || strings.ContainsRune(name, '\\') {
		return nil, errors.New("must name a file in the folder of the manifest or below it, without .. and not beginning with /")
	}
	return readCapped(fsys, path.Join(folder, name), maxSide)
}

// readCapped reads a regular file of at most limit bytes.
func readCapped(fsys fs.FS, name string, limit int64) ([]byte, error) {
	info, err := fs.Stat(fsys, name)
	if err != nil {
		return nil, cause(err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("is not a regular file")
	}
	f, err := fsys.Open(name)
	if err != nil {
		return nil, cause(err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, cause(err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("is larger than %d bytes", limit)
	}
	return data, nil
}

// cause takes operation and path off an error of the file system; the fault names the file itself.
func cause(err error) error {
	if p, ok := errors.AsType[*fs.PathError](err); ok {
		return p.Err
	}
	return err
}
