package main

import (
	"bytes"
	"strings"
	"text/template"
	"time"
)

// The plot has a row of bars for each variant. Comparable variants share a panel with its own scale.
const (
	plotWidth  = 820
	barsFrom   = 390 // where the bars begin
	barsLength = 340
	rowHeight  = 30
	headHeight = 44
)

type plotBar struct {
	Y, Width int
	Class    string
	Value    string
}

type plotRow struct {
	Label string
	Y     int
	Bars  []plotBar
}

type plotPanel struct {
	Title string
	Y     int
	Rows  []plotRow
}

// drawing is the whole plot, top to bottom.
type drawing struct {
	Width, Height, BarsFrom, TextFrom int
	Panels                            []plotPanel
}

const plotTemplate = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {{.Width}} {{.Height}}" role="img"` +
	` aria-label="How long things took, and how many were done in a second">
<style>
  text { font: 13px system-ui, sans-serif; fill: #1f2328; }
  .title { font-weight: 600; }
  .half { fill: #2f6fb7; } .tail { fill: #9dbfe3; } .rate { fill: #3a8a5c; }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3; }
    .half { fill: #5b9fe6; } .tail { fill: #2f4f73; } .rate { fill: #57b581; }
  }
</style>
{{range .Panels}}<text class="title" x="10" y="{{.Y}}">{{.Title}}</text>
{{range .Rows}}<text x="10" y="{{.Y}}">{{.Label}}</text>
{{range .Bars}}<rect class="{{.Class}}" x="{{$.BarsFrom}}" y="{{.Y}}" width="{{.Width}}" height="11"/>` +
	`<text x="{{$.TextFrom}}" dx="{{.Width}}" y="{{.Y}}" dy="10">{{.Value}}</text>
{{end}}{{end}}{{end}}</svg>
`

// plot draws the report as SVG.
func (r *report) plot() ([]byte, error) {
	d := drawing{Width: plotWidth, BarsFrom: barsFrom, TextFrom: barsFrom + 5}
	var signups, reads []*variant
	for _, v := range r.times {
		if strings.HasPrefix(v.name, "read") {
			reads = append(reads, v)
		} else {
			signups = append(signups, v)
		}
	}
	d.addTimes("Milliseconds: p50 (upper bar), p95 (lower bar)", signups)
	d.addTimes("Milliseconds of a read: p50 (upper bar), p95 (lower bar)", reads)
	d.addRates("Done in a second", r.rates)
	d.Height += 10
	var out bytes.Buffer
	err := template.Must(template.New("plot").Parse(plotTemplate)).Execute(&out, d)
	return out.Bytes(), err
}

func (d *drawing) addTimes(title string, variants []*variant) {
	var most time.Duration
	for _, v := range variants {
		most = max(most, v.times.p95())
	}
	d.addPanel(title, variants, func(v *variant, y int) []plotBar {
		p50, p95 := v.times.p50(), v.times.p95()
		return []plotBar{
			{Y: y, Width: length(ratio(p50, most)), Class: "half", Value: inMilliseconds(p50)},
			{Y: y + 12, Width: length(ratio(p95, most)), Class: "tail", Value: inMilliseconds(p95)},
		}
	})
}

func (d *drawing) addRates(title string, variants []*variant) {
	var most float64
	for _, v := range variants {
		most = max(most, v.burst.perSecond())
	}
	d.addPanel(title, variants, func(v *variant, y int) []plotBar {
		rate := v.burst.perSecond()
		return []plotBar{{Y: y + 6, Width: length(ratio(rate, most)), Class: "rate", Value: threeDigits(rate)}}
	})
}

func length(share float64) int { return max(1, int(share*barsLength)) }

func (d *drawing) addPanel(title string, variants []*variant, bars func(v *variant, y int) []plotBar) {
	if len(variants) == 0 {
		return
	}
	panel := plotPanel{Title: title, Y: d.Height + headHeight - 14}
	for i, v := range variants {
		y := d.Height + headHeight + i*rowHeight
		panel.Rows = append(panel.Rows, plotRow{Label: v.name, Y: y + 16, Bars: bars(v, y)})
	}
	d.Panels = append(d.Panels, panel)
	d.Height += headHeight + len(variants)*rowHeight
}
