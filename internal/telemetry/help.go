package telemetry

import (
	"cmp"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// helpTexts are the help texts of metrics from workflows and activities. Temporal's SDK accepts none for them.
var helpTexts = map[string]string{
	"saga_ended_total":          "Signups and invitations that have ended, by outcome and the step that failed.",
	"saga_duration_seconds":     "How long signups and invitations took, from their start to their end.",
	"saga_rollback_stuck_total": "Compensations that have failed for over a minute and are still tried.",
	"signup_databases_total":    "Databases of signups, by where they came from.",
	"pool_stock":                "Databases that are ready to be claimed by signups.",
	"pool_size":                 "Databases that are kept ready.",
}

const temporalHelp = "Of Temporal's SDK: https://docs.temporal.io/references/sdk-metrics"

// withHelp adds help texts to metrics that have none.
func withHelp(from prometheus.Gatherer) prometheus.Gatherer {
	return prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		families, err := from.Gather()
		for _, family := range families {
			help := helpTexts[family.GetName()]
			if strings.HasPrefix(family.GetName(), "temporal_") {
				help = temporalHelp
			}
			if text := cmp.Or(family.GetHelp(), help); text != "" {
				family.Help = new(text)
			}
		}
		return families, err
	})
}
