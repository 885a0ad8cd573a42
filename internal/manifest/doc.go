// Package manifest reads the files in which an admin keeps users, profiles and assignments: YAML or JSON, several
// documents in a file, certificates and .mobileconfig files beside them. It turns them into the objects of package
// profiles, so that every fault names its file, line and column, and writes objects as YAML again.
//
// The YAML is the plain part of YAML 1.2: anchors, aliases, merge keys and tags are refused, so that what a reader sees
// is what is meant, and a small file cannot unfold into a large one.
package manifest
