// Runs in a page before its scripts: records in `seen` the opened devices, their errors and their submits.
//
// `destroyAfter` destroys the first device after this many non-empty submits. `subgroup` makes adapters report this
// subgroup size.
export function watch({ destroyAfter, subgroup }) {
  const seen = { devices: [], errors: [], destroyed: 0 };
  globalThis.seen = seen;
  if (subgroup) {
    for (const size of ['subgroupMinSize', 'subgroupMaxSize']) {
      Object.defineProperty(GPUAdapterInfo.prototype, size, { get: () => subgroup });
    }
  }
  const { requestDevice } = GPUAdapter.prototype;
  GPUAdapter.prototype.requestDevice = async function (...wanted) {
    const device = await requestDevice.apply(this, wanted);
    const { vendor, architecture, description, subgroupMinSize, subgroupMaxSize } = this.info;
    const noted = {
      vendor, architecture, description, subgroupMinSize, subgroupMaxSize,
      offered: [...this.features], features: [...device.features], submits: 0,
    };
    seen.devices.push(noted);
    device.addEventListener('uncapturederror', ({ error }) => {
      seen.errors.push(`${error.constructor.name}: ${error.message}`);
    });
    const { submit } = device.queue;
    device.queue.submit = function (buffers) {
      submit.call(this, buffers);
      noted.submits += buffers.length > 0 ? 1 : 0;
      if (noted.submits === destroyAfter && seen.destroyed === 0) {
        seen.destroyed += 1;
        device.destroy();
      }
    };
    return device;
  };
}
