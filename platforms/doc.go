// Package platforms holds the words that every platform's plan shares: the document, its credentials and the reasons.
// HOW each platform says a profile is in its own sub-package; siblings never meet. All of it is pure: no network,
// database, clock or file.
package platforms
