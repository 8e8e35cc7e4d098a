// Package phone holds the rules of phone numbers: their normal form (E.164) and its syntax.
package phone

import (
	"regexp"
	"strings"
)

var (
	e164       = regexp.MustCompile(`^\+[1-9][0-9]{6,14}$`)
	separators = strings.NewReplacer(" ", "", "-", "", ".", "", "(", "", ")", "", "/", "")
)

// Normalise removes the separators that people write between digits.
func Normalise(phone string) string { return separators.Replace(phone) }

// Check returns what is wrong with a normalised number, or "".
func Check(phone string) string {
	if !e164.MatchString(phone) {
		return "must be a phone number with its country code, like +15550100"
	}
	return ""
}
