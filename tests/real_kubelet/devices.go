// Writes the device manager's checkpoint with the code of a kubelet: `devices FOLDER < ENTRIES`.
// The form of an entry's DeviceIDs is that version's own (see README.md).
package main

import (
	"encoding/json"
	"os"

	"k8s.io/kubernetes/pkg/kubelet/checkpointmanager"
	"k8s.io/kubernetes/pkg/kubelet/cm/devicemanager/checkpoint"
)

func main() {
	var found struct {
		Entries []checkpoint.PodDevicesEntry
		Devices map[string][]string
	}
	if err := json.NewDecoder(os.Stdin).Decode(&found); err != nil {
		panic(err)
	}
	manager, err := checkpointmanager.NewCheckpointManager(os.Args[1])
	if err == nil {
		err = manager.CreateCheckpoint("kubelet_internal_checkpoint", checkpoint.New(found.Entries, found.Devices))
	}
	if err != nil {
		panic(err)
	}
}
