package main

import (
	"strconv"
	"strings"
	"unicode"
)

// printable escapes what a terminal may take for a command, and line breaks. Text from a church's database needs that:
// the church has chosen the names in it.
func printable(text string) string {
	var escaped strings.Builder
	for _, r := range text {
		if unicode.IsPrint(r) {
			escaped.WriteRune(r)
			continue
		}
		escaped.WriteString(strings.Trim(strconv.QuoteRune(r), "'"))
	}
	return escaped.String()
}
