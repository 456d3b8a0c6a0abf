//! Worlds: uploaded or forked as drafts, checked, retired.

use crate::accounts::{
    Call, Done, allow, create as create_account, edit, header, is_at, is_ours, now, require,
    split_mut, view,
};
use crate::cpi;
use crate::kernels::Chip;
use crate::syscall::sha256;
use pinocchio::account::RefMut;
use pinocchio::{AccountView, Address};
use worldline_abi::instruction::{
    CheckWorld, CopyShard, CreateShard, CreateWorld, ForkWorld, ReopenWorld, RetireWorld,
    WriteShard,
};
use worldline_abi::{
    Fault, Layout, MAX_PAGES, MAX_SHARD_BYTES, MAX_SHARDS, MERKLE_LEAF_BYTES, MERKLE_WORDS,
    ModelManifest, WeightShard, WorldAccount, address, kernels, world_status,
};
use worldline_cartridge::Merkle;

/// Bytes before a shard's weights.
const SHARD_HEADER: usize = size_of::<WeightShard>();
/// The address of a shard that has no account.
const NO_SHARD: address::Address = [0; 32];

#[inline(never)]
pub(crate) fn create(call: Call<'_>, body: &CreateWorld, _: &[u8]) -> Done {
    let (program, [owner, world, ..], _) = call.split::<3>()?;
    let manifest = body.manifest;
    require(fits(&manifest), Fault::BadManifest)?;
    found(program, owner, world, body.id, body.fee, |found| {
        *found = manifest
    })
}

#[inline(never)]
pub(crate) fn fork(call: Call<'_>, body: &ForkWorld, _: &[u8]) -> Done {
    let (program, [owner, world, parent, ..], _) = call.split::<4>()?;
    found(program, owner, world, body.id, body.fee, |_| ())?;
    let parent_address = *parent.address().as_array();
    let parent = view::<WorldAccount>(parent, program)?;
    require(parent.status == world_status::READY, Fault::WorldStatus)?;
    let mut world = edit::<WorldAccount>(world, program)?;
    let owner = world.manifest.owner;
    world.manifest = parent.manifest;
    world.manifest.owner = owner;
    world.manifest.parent = parent_address;
    world.manifest.shards = [NO_SHARD; MAX_SHARDS];
    if body.name != [0; 32] {
        world.manifest.name = body.name;
    }
    Ok(())
}

/// Makes the account of a world without weights.
#[inline(always)]
fn found(
    program: &Address,
    owner: &AccountView,
    account: &mut AccountView,
    id: u64,
    fee: u64,
    fill: impl FnOnce(&mut ModelManifest),
) -> Done {
    let seeds_id = id.to_le_bytes();
    let seeds = address::world(owner.address().as_array(), &seeds_id);
    create_account(account, owner, program, seeds, size_of::<WorldAccount>())?;
    let mut data = account.try_borrow_mut()?;
    let (world, _) = blank::<WorldAccount>(&mut data)?;
    fill(&mut world.manifest);
    world.manifest.owner = *owner.address().as_array();
    world.manifest.shards = [NO_SHARD; MAX_SHARDS];
    (world.id, world.fee, world.created) = (id, fee, now()?);
    Ok(())
}

/// Writes the discriminator of a layout into an account of zeros.
pub(crate) fn blank<T: Layout>(bytes: &mut [u8]) -> Done<(&mut T, &mut [u8])> {
    if let Some(discriminator) = T::DISCRIMINATOR {
        let start = bytes.get_mut(..8).ok_or(Fault::WrongSize)?;
        require(start == [0; 8], Fault::Exists)?;
        start.copy_from_slice(&discriminator);
    }
    split_mut(bytes)
}

/// Whether accounts can hold what the manifest promises.
fn fits(manifest: &ModelManifest) -> bool {
    let count = usize::from(manifest.shard_count);
    let (used, unused) = manifest.shard_bytes.split_at(count.min(MAX_SHARDS));
    Some(manifest.discriminator) == ModelManifest::DISCRIMINATOR
        && (1..=MAX_SHARDS).contains(&count)
        && used
            .iter()
            .all(|bytes| (1..=MAX_SHARD_BYTES).contains(&(*bytes as usize)))
        && unused.iter().all(|bytes| *bytes == 0)
        && (1..=MAX_PAGES).contains(&manifest.hidden_pages.into())
}

/// A world that its owner writes to, at one of these stages.
#[inline(always)]
fn own<'a>(
    owner: &AccountView,
    world: &'a mut AccountView,
    program: &Address,
    stage: u8,
) -> Done<RefMut<'a, WorldAccount>> {
    let world = edit::<WorldAccount>(world, program)?;
    allow(owner, &world.manifest.owner)?;
    require(world.status == stage, Fault::WorldStatus)?;
    Ok(world)
}

/// A draft that its owner reads.
#[inline(always)]
fn draft(owner: &AccountView, world: &AccountView, program: &Address) -> Done {
    let world = view::<WorldAccount>(world, program)?;
    allow(owner, &world.manifest.owner)?;
    require(world.status == world_status::DRAFT, Fault::WorldStatus)
}

#[inline(never)]
pub(crate) fn create_shard(call: Call<'_>, body: &CreateShard, _: &[u8]) -> Done {
    let (program, [owner, world, shard], _) = call.split::<3>()?;
    let address = *world.address().as_array();
    let mut world = own(owner, world, program, world_status::DRAFT)?;
    let index = usize::from(body.index);
    require(index < world.manifest.shard_count.into(), Fault::OutOfRange)?;
    require(world.manifest.shards[index] == NO_SHARD, Fault::Exists)?;
    let seed = address::shard_seed(world.id, body.index);
    let expected = sha256(&[owner.address().as_array(), &seed, program.as_array()]);
    is_at(shard, &expected)?;
    is_ours(shard, program)?;
    let bytes = world.manifest.shard_bytes[index];
    require(
        shard.data_len() == SHARD_HEADER + bytes as usize,
        Fault::WrongSize,
    )?;
    world.manifest.shards[index] = expected;
    let mut data = shard.try_borrow_mut()?;
    let (shard, _) = blank::<WeightShard>(&mut data)?;
    (shard.world, shard.index, shard.bytes) = (address, body.index.into(), bytes);
    Ok(())
}

#[inline(never)]
pub(crate) fn write_shard(call: Call<'_>, body: &WriteShard, tail: &[u8]) -> Done {
    let (program, [owner, world, shard], _) = call.split::<3>()?;
    draft(owner, world, program)?;
    let mut data = weights_of(shard, world.address(), program)?;
    put(&mut data[SHARD_HEADER..], body.offset, tail)
}

#[inline(never)]
pub(crate) fn copy_shard(call: Call<'_>, body: &CopyShard, _: &[u8]) -> Done {
    let (program, [owner, world, shard, source], _) = call.split::<4>()?;
    draft(owner, world, program)?;
    let mut data = weights_of(shard, world.address(), program)?;
    let (shard, weights) = split_mut::<WeightShard>(&mut data)?;
    let from = header::<WeightShard>(source, program)?;
    let parent = view::<WorldAccount>(world, program)?.manifest.parent;
    require(
        from.world == parent && from.index == shard.index,
        Fault::WrongAddress,
    )?;
    let source = source.try_borrow()?;
    let first = body.offset as usize;
    let end = first
        .checked_add(body.bytes as usize)
        .ok_or(Fault::OutOfRange)?;
    let part = source[SHARD_HEADER..]
        .get(first..end)
        .ok_or(Fault::OutOfRange)?;
    put(weights, body.offset, part)
}

/// The bytes of a shard of this world, to be written to.
#[inline(always)]
fn weights_of<'a>(
    shard: &'a mut AccountView,
    world: &Address,
    program: &Address,
) -> Done<RefMut<'a, [u8]>> {
    require(
        header::<WeightShard>(shard, program)?.world == *world.as_array(),
        Fault::WrongAddress,
    )?;
    Ok(shard.try_borrow_mut()?)
}

/// Writes `part` at `offset`, if it lies inside.
pub(crate) fn put(into: &mut [u8], offset: u32, part: &[u8]) -> Done {
    let first = offset as usize;
    let end = first.checked_add(part.len()).ok_or(Fault::OutOfRange)?;
    into.get_mut(first..end)
        .ok_or(Fault::OutOfRange)?
        .copy_from_slice(part);
    Ok(())
}

#[inline(never)]
pub(crate) fn check(call: Call<'_>, body: &CheckWorld, _: &[u8]) -> Done {
    let (program, [owner, world, shard], _) = call.split::<3>()?;
    let mut world = edit::<WorldAccount>(world, program)?;
    allow(owner, &world.manifest.owner)?;
    let manifest = world.manifest;
    let shards = &manifest.shards[..usize::from(manifest.shard_count).min(MAX_SHARDS)];
    if world.status == world_status::DRAFT {
        require(!shards.contains(&NO_SHARD), Fault::WorldStatus)?;
        (world.status, world.merkle) = (world_status::CHECKING, [0; MERKLE_WORDS]);
    }
    require(world.status == world_status::CHECKING, Fault::WorldStatus)?;
    let tree: &mut Merkle = bytemuck::cast_mut(&mut world.merkle);

    // Which shard the next leaf is of, and where in it.
    let (mut index, mut leaf) = (0, tree.leaves());
    let leaves_of = |index: usize| manifest.shard_bytes[index].div_ceil(MERKLE_LEAF_BYTES as u32);
    while leaf >= leaves_of(index) {
        leaf -= leaves_of(index);
        index += 1;
    }
    is_at(shard, &manifest.shards[index])?;
    is_ours(shard, program)?;
    let mut data = shard.try_borrow_mut()?;
    let (shard, weights) = split_mut::<WeightShard>(&mut data)?;
    let rest = weights.chunks(MERKLE_LEAF_BYTES).skip(leaf as usize);
    for part in rest.take(body.leaves as usize) {
        tree.push(&Chip(kernels::PLAIN), part);
        leaf += 1;
    }
    shard.verified_leaves = leaf;
    if leaf == leaves_of(index) && index + 1 == shards.len() {
        let root = tree.root(&Chip(kernels::PLAIN));
        require(root == manifest.merkle_root, Fault::WrongRoot)?;
        world.status = world_status::READY;
    }
    Ok(())
}

#[inline(never)]
pub(crate) fn reopen(call: Call<'_>, _: &ReopenWorld, _: &[u8]) -> Done {
    let (program, [owner, world], _) = call.split::<2>()?;
    own(owner, world, program, world_status::CHECKING)?.status = world_status::DRAFT;
    Ok(())
}

#[inline(never)]
pub(crate) fn retire(call: Call<'_>, _: &RetireWorld, _: &[u8]) -> Done {
    let (program, [owner, account], shards) = call.split::<2>()?;
    let address = *account.address();
    let mut world = edit::<WorldAccount>(account, program)?;
    allow(owner, &world.manifest.owner)?;
    require(world.live_sessions == 0, Fault::SessionsLive)?;
    world.status = world_status::RETIRED;
    for shard in shards {
        let index = usize::from(header::<WeightShard>(shard, program)?.index);
        let place = world
            .manifest
            .shards
            .get_mut(index)
            .ok_or(Fault::OutOfRange)?;
        require(place == shard.address().as_array(), Fault::WrongAddress)?;
        *place = NO_SHARD;
        weights_of(shard, &address, program)?;
        cpi::close(shard, owner)?;
    }
    let empty = world.manifest.shards == [NO_SHARD; MAX_SHARDS];
    drop(world);
    if empty {
        cpi::close(account, owner)
    } else {
        Ok(())
    }
}
