// SPDX-License-Identifier: MIT
pragma solidity 0.8.20;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";
import {Pausable} from "@openzeppelin/contracts/utils/Pausable.sol";

import {ITaskCoordinator} from "../src/ITaskCoordinator.sol";
import {TaskCoordinator} from "../src/TaskCoordinator.sol";
import {Base} from "./Base.sol";

contract TermsTest is Base {
    function refuses(ITaskCoordinator.Settings memory settings, string memory name) private {
        reverts(abi.encodeWithSelector(ITaskCoordinator.SettingRefused.selector, name));
        new TaskCoordinator(OWNER, TREASURY, ARBITRATOR, settings);
    }

    function test_constructor_tellsItsSettings() public view {
        require(keccak256(abi.encode(coordinator.settings())) == keccak256(abi.encode(terms())), "settings");
        eq(coordinator.owner(), OWNER, "owner");
        eq(coordinator.treasury(), TREASURY, "treasury");
        eq(coordinator.arbitrator(), ARBITRATOR, "arbitrator");
        eq(coordinator.feeBasisPoints(), 200, "fee");
    }

    function test_constructor_refusesZeroAddresses() public {
        reverts(abi.encodeWithSelector(ITaskCoordinator.ZeroAddress.selector));
        new TaskCoordinator(OWNER, address(0), ARBITRATOR, terms());
        reverts(abi.encodeWithSelector(ITaskCoordinator.ZeroAddress.selector));
        new TaskCoordinator(OWNER, TREASURY, address(0), terms());
        reverts(abi.encodeWithSelector(Ownable.OwnableInvalidOwner.selector, address(0)));
        new TaskCoordinator(address(0), TREASURY, ARBITRATOR, terms());
    }

    function test_constructor_refusesAmounts() public {
        ITaskCoordinator.Settings memory settings = terms();
        settings.minStake = 0;
        refuses(settings, "minStake");
        settings = terms();
        settings.minReward = 0;
        refuses(settings, "minReward");
        settings = terms();
        settings.minBond = 0;
        refuses(settings, "minBond");
        settings = terms();
        settings.lockMultiple = 0;
        refuses(settings, "lockMultiple");
        settings = terms();
        settings.maxLock = uint96(uint256(settings.minReward) * settings.lockMultiple - 1);
        refuses(settings, "maxLock");
        ++settings.maxLock;
        new TaskCoordinator(OWNER, TREASURY, ARBITRATOR, settings);
    }

    function test_constructor_refusesPeriods() public {
        ITaskCoordinator.Settings memory settings = terms();
        settings.taskLifetime = 0;
        refuses(settings, "taskLifetime");
        settings.taskLifetime = 365 days + 1;
        refuses(settings, "taskLifetime");
        settings = terms();
        settings.claimPeriod = 0;
        refuses(settings, "claimPeriod");
        settings = terms();
        settings.challengePeriod = 0;
        refuses(settings, "challengePeriod");
        settings = terms();
        settings.rulingPeriod = 365 days + 1;
        refuses(settings, "rulingPeriod");
        settings = terms();
        settings.unbondingPeriod = 1 hours + 1 hours + 3 days;
        refuses(settings, "unbondingPeriod");
        ++settings.unbondingPeriod;
        new TaskCoordinator(OWNER, TREASURY, ARBITRATOR, settings);
    }

    function test_setFee_upToFivePerCent() public {
        vm.startPrank(OWNER);
        reverts(abi.encodeWithSelector(ITaskCoordinator.FeeTooHigh.selector, 500, 501));
        coordinator.setFee(501);
        vm.expectEmit(true, true, true, true, address(coordinator));
        emit FeeChanged(500);
        coordinator.setFee(500);
        eq(coordinator.costOf(1 ether), 1.05 ether, "cost");
        coordinator.setFee(0);
        eq(coordinator.costOf(1 ether), 1 ether, "cost");
    }

    function test_setTreasury_earnsFromThenOn() public {
        verified();
        vm.startPrank(OWNER);
        reverts(abi.encodeWithSelector(ITaskCoordinator.ZeroAddress.selector));
        coordinator.setTreasury(address(0));
        coordinator.setTreasury(OTHER);
        vm.stopPrank();
        submit(SUBMITTER, CID, REWARD);
        claim(WORKER, CID);
        finish(WORKER, CID, RESULT);
        toDeadline(CID);
        coordinator.verifyTask(CID);
        eq(coordinator.credits(TREASURY), FEE, "the old treasury's");
        eq(coordinator.credits(OTHER), FEE, "the new treasury's");
    }

    function test_owner_isTheOnlyOne() public {
        vm.startPrank(OTHER);
        bytes memory unauthorized = abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, OTHER);
        reverts(unauthorized);
        coordinator.setFee(0);
        reverts(unauthorized);
        coordinator.setTreasury(OTHER);
        reverts(unauthorized);
        coordinator.proposeArbitrator(OTHER);
        reverts(unauthorized);
        coordinator.pause();
        reverts(unauthorized);
        coordinator.unpause();
    }

    function test_owner_changesInTwoSteps() public {
        vm.prank(OWNER);
        coordinator.transferOwnership(OTHER);
        eq(coordinator.owner(), OWNER, "still the old one");
        vm.prank(OTHER);
        coordinator.acceptOwnership();
        eq(coordinator.owner(), OTHER, "the new one");
    }

    function test_arbitrator_changesAfterTheUnbondingPeriod() public {
        vm.prank(OWNER);
        coordinator.proposeArbitrator(OTHER);
        vm.startPrank(OTHER);
        reverts(abi.encodeWithSelector(ITaskCoordinator.StillUnbonding.selector, block.timestamp + 4 days));
        coordinator.acceptArbitrator();
        vm.warp(block.timestamp + 4 days);
        coordinator.acceptArbitrator();
        vm.stopPrank();
        eq(coordinator.arbitrator(), OTHER, "arbitrator");
        // accepted once only
        vm.prank(OTHER);
        reverts(abi.encodeWithSelector(ITaskCoordinator.NotArbitrator.selector, OTHER));
        coordinator.acceptArbitrator();
    }

    function test_arbitrator_proposalCanBeTakenBack() public {
        vm.startPrank(OWNER);
        coordinator.proposeArbitrator(OTHER);
        coordinator.proposeArbitrator(address(0));
        vm.stopPrank();
        vm.warp(block.timestamp + 4 days);
        vm.prank(OTHER);
        reverts(abi.encodeWithSelector(ITaskCoordinator.NotArbitrator.selector, OTHER));
        coordinator.acceptArbitrator();
    }

    function test_pause_letsNothingIn() public {
        register(WORKER);
        open();
        bytes32[] memory cids = batch(1);
        vm.prank(OWNER);
        coordinator.pause();
        bytes memory paused = abi.encodeWithSelector(Pausable.EnforcedPause.selector);
        reverts(paused);
        coordinator.registerWorker{value: STAKE}();
        reverts(paused);
        coordinator.topUpStake{value: STAKE}();
        reverts(paused);
        coordinator.submitTask(CID, REWARD);
        reverts(paused);
        coordinator.submitTasks(cids, REWARD);
        reverts(paused);
        coordinator.claimTask(CID);
        reverts(paused);
        coordinator.claimTaskFor(CID, 0);
        reverts(paused);
        coordinator.claimTasks(cids);
        vm.prank(OWNER);
        coordinator.unpause();
        claim(WORKER, CID);
    }

    function test_pause_letsWhatHasBegunGoOn() public {
        claimed();
        vm.prank(OWNER);
        coordinator.pause();
        finish(WORKER, CID, RESULT);
        toDeadline(CID);
        coordinator.verifyTask(CID);
        eq(coordinator.credits(WORKER), REWARD, "paid");
    }

    function test_receive_refusesMoneyWithoutAPurpose() public {
        (bool sent,) = address(coordinator).call{value: 1}("");
        require(!sent, "took it");
    }
}
